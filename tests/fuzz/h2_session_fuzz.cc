// Any bytes as an HTTP/2 connection of gRPC. Checks beside not crashing: what is sent is bounded by
// what came, each call that began is told its end, and no stream is forgotten.
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "rpc/h2_session.h"
#include "sluice/v1/inference.pb.h"

namespace {

using sluice::rpc::Call;
using sluice::rpc::CallContext;

void Check(bool condition) {
  if (!condition) std::abort();
}

int num_open = 0;

// Echoes a request's size, in as many writes as its first byte says.
class EchoCall final : public Call {
 public:
  explicit EchoCall(CallContext* context) : context_(context) { ++num_open; }
  ~EchoCall() override { Check(done_); }
  void Start(const grpc::ByteBuffer& request) override {
    started_ = true;
    left_ = static_cast<int>(request.Length() % 5);
    answer_.set_text(std::string(request.Length() % 3000, 'x'));
    Read();
    Next();
  }
  void OnRequest(const grpc::ByteBuffer& /*request*/) override {
    Check(started_ && std::exchange(reading_, false));
    Read();
  }
  void OnRequestsDone() override {
    Check(started_ && std::exchange(reading_, false));
    over_ = true;
    if (!writing_) Finish();
  }
  void OnWriteDone(bool ok) override {
    Check(writing_);
    writing_ = false;
    if (!ok || cancelled_ || over_) return Finish();
    Next();
  }
  void OnCancel() override {
    cancelled_ = true;
    if (!writing_) Finish();
  }
  void OnDone() override {
    Check(finished_ && !done_);
    done_ = true;
    --num_open;
  }

 private:
  void Read() {
    reading_ = true;
    context_->StartRead();
  }
  void Next() {
    Check(context_->Encode(answer_).ok());
    if (left_-- > 0) {
      writing_ = true;
      return context_->StartWrite();
    }
    if (finished_) return;
    finished_ = true;
    context_->FinishWithMessage(grpc::Status::OK);
  }
  void Finish() {
    if (finished_) return;
    finished_ = true;
    context_->Finish({grpc::StatusCode::CANCELLED, "over"});
  }

  CallContext* const context_;
  sluice::v1::GenerateRequest answer_;
  int left_ = 0;
  bool started_ = false, reading_ = false, over_ = false, writing_ = false, cancelled_ = false,
       finished_ = false, done_ = false;
};

class Host final : public sluice::rpc::H2Host {
 public:
  sluice::rpc::EventBook* events() override { return nullptr; }
  std::string peer() override { return "fuzz"; }
  bool OnThread() override { return true; }
  void Post(std::function<void()> /*work*/) override { std::abort(); }
  void MarkDirty() override {}
  const sluice::rpc::H2Method* Find(const std::string& path) override {
    if (path.empty()) return nullptr;
    return path.size() % 2 == 0 ? &one_ : &many_;
  }
  bool EnterStream() override {
    ++num_streams_;
    return true;
  }
  void LeaveStream() override { --num_streams_; }
  int num_streams_ = 0;

 private:
  static std::shared_ptr<Call> New(CallContext* context) {
    return std::make_shared<EchoCall>(context);
  }
  const sluice::rpc::H2Method one_{false, 4096, &Host::New}, many_{true, 1024, &Host::New};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Host host;
  const sluice::rpc::H2Limits limits{.max_message_bytes = 4096,
                                     .max_header_bytes = 1024,
                                     .max_streams = 16,
                                     .read_timeout = absl::Seconds(1),
                                     .idle_timeout = absl::Seconds(1),
                                     .write_timeout = absl::Seconds(1)};
  {
    sluice::rpc::H2Session session(&host, limits);
    // The first byte cuts the rest into reads; the greeting is given, so that frames begin at once.
    const size_t step = size == 0 ? 1 : 1 + data[0];
    std::string out;
    session.Feed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    session.Feed(std::string_view("\0\0\0\4\0\0\0\0\0", 9));
    for (size_t at = 1; at < size && !session.over(); at += step) {
      session.Feed({reinterpret_cast<const char*>(data) + at, std::min(step, size - at)});
      while (!session.over() && session.Pull(out, 4096)) out.clear();
      Check(out.size() < (64U << 10U));
      out.clear();
      if (at % 7 == 0)
        session.Sweep(std::chrono::steady_clock::now() + std::chrono::milliseconds(at % 3000));
    }
    session.Drain();
    session.CancelStreams();
    session.Pull(out, 4096);
    session.Lost();
  }
  Check(num_open == 0);
  Check(host.num_streams_ == 0);
  return 0;
}
