#include "rpc/infer_stream.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/check.h"

namespace sluice::rpc {
namespace {

constexpr char kShutDown[] = "the server shuts down";
constexpr size_t kMaxOpenRequests = 256;
constexpr size_t kMaxMessageBytes = 1U << 30U;  // the format's limit is twice that

}  // namespace

// A request of the stream, as the context of its call. The call guards it, but for what the
// stream's mutex does.
class InferStream::Item final : public InferContext {
  friend class InferStream;
  InferStream& stream_;  // first: `call` asks for the caller when it is made

 public:
  explicit Item(InferStream* stream)
      : stream_(*stream), call(std::make_shared<InferCall>(stream->env_, this)) {}

  [[nodiscard]] std::string Peer() const override { return stream_.peer_; }
  // Not x-request-id, which is the stream's own: each request has its id.
  [[nodiscard]] std::string Metadata(const char* name) const override {
    return std::string_view(name) == "authorization" ? stream_.authorization_ : "";
  }
  [[nodiscard]] size_t CountMetadata(const char* name) const override {
    return Metadata(name).empty() ? 0 : 1;
  }
  [[nodiscard]] absl::Time Deadline() const override { return stream_.deadline_; }
  [[nodiscard]] EventBook* events() override { return stream_.events_; }
  void AddInitialMetadata(const std::string& /*name*/, const std::string& /*value*/) override {}
  // A request has no trailers: its error bears them as parameters.
  void AddTrailingMetadata(const std::string& name, const std::string& value) override {
    (*error_.mutable_infer_response()->mutable_parameters())[name].set_string_param(value);
  }
  void SetId(const std::string& id) override { error_.mutable_infer_response()->set_id(id); }

  absl::Status Encode(const google::protobuf::Message& message) override {
    if (message.ByteSizeLong() > kMaxMessageBytes)
      return absl::InternalError("an answer does not fit one message");
    message_.CopyFrom(message);
    return absl::OkStatus();
  }
  void StartWrite() override { stream_.Enqueue(this, false); }
  void FinishWithMessage(grpc::Status /*status*/) override { stream_.Enqueue(this, true); }
  void Finish(grpc::Status status) override {
    error_.set_error_message(status.error_message());
    auto& parameters = *error_.mutable_infer_response()->mutable_parameters();
    parameters["triton_final_response"].set_bool_param(true);
    parameters["grpc_status"].set_int64_param(status.error_code());
    message_.Swap(&error_);
    stream_.Enqueue(this, true);
  }
  // The call has waited for long; but perhaps only for its turn.
  void TryCancel() override {
    const MutexLock lock(stream_.mutex_);
    const bool stuck = absl::Now() - stream_.busy_since_ > stream_.env_->write_timeout;
    if (stuck && !stream_.finished_) stream_.context_->TryCancel();
  }

  const std::shared_ptr<InferCall> call;
  // Under the stream's mutex:
  int users = 1;         // threads that tell `call` something; at first, its start
  bool writing = false;  // `call` waits for an OnWriteDone
  bool done = false;     // its last message is written

 private:
  inference::ModelStreamInferResponse message_, error_;
};

bool InferStreams::Enter(InferStream* stream) {
  const MutexLock lock(mutex_);
  if (!shut_down_) open_.insert(stream);
  return !shut_down_;
}

void InferStreams::Remove(InferStream* stream) {
  const MutexLock lock(mutex_);
  open_.erase(stream);
}

void InferStreams::Shutdown() {
  const MutexLock lock(mutex_);
  shut_down_ = true;
  for (InferStream* const stream : open_) stream->Shutdown();
}

InferStream::InferStream(std::shared_ptr<Environment> env, InferStreams* streams,
                         CallContext* context)
    : env_(std::move(env)),
      streams_(streams),
      peer_(context->Peer()),
      authorization_(context->Metadata("authorization")),
      deadline_(context->Deadline()),
      events_(context->events()),
      context_(context),
      record_(env_.get(), "ModelStreamInfer", context) {}

InferStream::~InferStream() = default;

void InferStream::Start(const grpc::ByteBuffer& request) {
  const bool serving = streams_->Enter(this);
  {
    const MutexLock lock(mutex_);
    reading_ = true;
    absl::Status admitted = record_.Admit();
    if (admitted.ok() && !serving) admitted = absl::UnavailableError(kShutDown);
    if (!admitted.ok()) {
      finished_ = true;
      return context_->Finish(record_.Close(admitted));
    }
  }
  OnRequest(request);
}

void InferStream::OnDone() {
  streams_->Remove(this);
  const MutexLock lock(mutex_);
}

void InferStream::Shutdown() {
  const MutexLock lock(mutex_);
  shut_down_ = true;
  Advance();
}

void InferStream::OnRequest(const grpc::ByteBuffer& request) {
  Item* item = nullptr;
  {
    const MutexLock lock(mutex_);
    if (finished_ || !status_.ok()) return;  // it was on its way
    item = items_.emplace_back(std::make_unique<Item>(this)).get();
  }
  item->call->Start(request);
  {
    const MutexLock lock(mutex_);
    reading_ = false;
    ReadNext();
  }
  Release(item);
}

void InferStream::OnRequestsDone() {
  const MutexLock lock(mutex_);
  no_more_ = true;
  Advance();
}

void InferStream::OnWriteDone(bool ok) {
  Entry written{nullptr, false};
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    busy_since_ = absl::InfiniteFuture();
    if (ok && status_.ok()) {
      written = queue_.front();
      queue_.pop_front();
      ++written.item->users;
      written.item->writing = false;
      written.item->done = written.last;
    }
    if (ok) Advance();
  }
  if (!ok) OnCancel();
  if (written.item == nullptr) return;
  if (!written.last) written.item->call->OnWriteDone(true);
  Release(written.item);
}

void InferStream::OnCancel() {
  bool expired = false;
  {
    const MutexLock lock(mutex_);
    expired = !finished_ && record_.DeadlinePassed();
  }
  Abandon(expired ? absl::DeadlineExceededError("the deadline has passed")
                  : absl::CancelledError("the client has gone"));
}

void InferStream::Abandon(const absl::Status& status) {
  std::vector<Item*> idle;
  {
    const MutexLock lock(mutex_);
    if (finished_) return;
    if (status_.ok()) {
      status_ = status;
      queue_.clear();
      for (const auto& item : items_) {
        if (item->users > 0) continue;
        ++item->users;
        idle.push_back(item.get());
      }
    }
  }
  for (Item* const item : idle) End(item);
  const MutexLock lock(mutex_);
  Advance();
}

void InferStream::Release(Item* item) {
  {
    const MutexLock lock(mutex_);
    const bool over = item->done || !status_.ok();
    if (item->users > 1 || !over) {
      --item->users;
      return;
    }
  }
  End(item);
}

void InferStream::End(Item* item) {
  bool done = false;
  {
    const MutexLock lock(mutex_);
    done = item->done;
  }
  if (!done) {
    item->call->OnCancel();
    bool writing = false;
    {
      const MutexLock lock(mutex_);
      writing = item->writing;
    }
    if (writing) item->call->OnWriteDone(false);
  }
  item->call->OnDone();
  std::list<std::unique_ptr<Item>> ended;  // goes, and logs, when the mutex is free
  const MutexLock lock(mutex_);
  const auto found = std::ranges::find(items_, item, [](const auto& one) { return one.get(); });
  ended.splice(ended.begin(), items_, found);
  ReadNext();
  Advance();
}

void InferStream::Enqueue(Item* item, bool last) {
  const MutexLock lock(mutex_);
  item->writing = !last;
  if (!status_.ok()) return;
  queue_.push_back({item, last});
  Advance();
}

void InferStream::Advance() {
  if (finished_ || writing_) return;
  if (!queue_.empty()) {
    SLUICE_CHECK(context_->Encode(queue_.front().item->message_).ok(), "kMaxMessageBytes is wrong");
    record_.AddInitialMetadata();
    writing_ = true;
    busy_since_ = absl::Now();
    return context_->StartWrite();
  }
  if (!items_.empty()) return;
  if (status_.ok() && !no_more_) {
    if (!shut_down_) return;
    status_ = absl::UnavailableError(kShutDown);
  }
  finished_ = true;
  context_->Finish(record_.Close(status_));
}

void InferStream::ReadNext() {
  if (reading_ || no_more_ || shut_down_ || finished_ || !status_.ok() ||
      items_.size() >= kMaxOpenRequests) {
    return;
  }
  reading_ = true;
  context_->StartRead();
}

}  // namespace sluice::rpc
