#include "rpc/generate_call.h"

#include <utility>
#include <variant>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "rpc/codec.h"

namespace sluice::rpc {
namespace {

// A longer request is parsed by the prepare pool: gRPC's threads do no work that grows with a
// prompt.
constexpr size_t kMaxInlineBytes = 65'536;
// A merged Delta stops growing here: clients refuse messages above 4 MiB unless told otherwise.
constexpr size_t kMaxDeltaBytes = 1U << 20U;
// The engine ends an expired request by itself and says so truly; a Cancel at the same moment would
// make it "cancelled". Should it not, the row is taken back after this time.
constexpr absl::Duration kDeadlineGrace = absl::Seconds(1);

}  // namespace

void GenerateCall::Start(const grpc::ByteBuffer& request) {
  {
    const MutexLock lock(mutex_);
    if (const absl::Status admitted = record_.Admit(); !admitted.ok())
      return FinishLocked(admitted);
  }
  if (request.Length() <= kMaxInlineBytes) return Begin(request);
  const absl::Status queued = env_->service->RunPrepared(
      [call = shared_from_this(), bytes = request] { call->Begin(bytes); });
  if (queued.ok()) return;
  const MutexLock lock(mutex_);
  if (!finished_) FinishLocked(queued, absl::Seconds(1));
}

absl::StatusOr<GenerateCall::Work> GenerateCall::Prepare(const grpc::ByteBuffer& bytes) {
  v1::GenerateRequest message;
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  const MutexLock lock(mutex_);
  if (finished_) return absl::CancelledError("the client has gone");
  RETURN_IF_ERROR(
      record_.TakeIds(std::move(*message.mutable_request_id()), message.idempotency_key()));
  ASSIGN_OR_RETURN(GenerateRequest request, DecodeGenerate(std::move(message)));
  request.request_id = record_.request_id();
  request.tenant = record_.caller().tenant;
  request.deadline = record_.Deadline();
  return request;
}

void GenerateCall::Begin(const grpc::ByteBuffer& bytes) {
  absl::StatusOr<Work> request = Prepare(bytes);
  EventBook* events = nullptr;
  StreamTag tag = 0;
  {
    const MutexLock lock(mutex_);
    if (finished_) return;  // gone while it waited for the pool
    if (!request.ok()) return FinishLocked(request.status());
    // While the call is not finished the server is there; from here on the book waits for the End.
    events = context_->events();
    tag = events->Open(shared_from_this());
  }
  CallId call = 0;
  if (auto* embed = std::get_if<EmbedRequest>(&*request)) {
    call = env_->service->Embed(std::move(*embed), events, tag);
  } else {
    call = env_->service->Generate(std::get<GenerateRequest>(*std::move(request)), events, tag);
  }
  bool cancel = false;
  {
    const MutexLock lock(mutex_);
    call_ = call;
    cancel =
        abandoned_ && cancel_at_ == absl::InfiniteFuture();  // it went while Generate was running
  }
  if (cancel) CancelCall();
}

// Not under mutex_: the Service may take its own locks.
void GenerateCall::CancelCall() {
  CallId call = 0;
  {
    const MutexLock lock(mutex_);
    if (!call_ || end_ || std::exchange(cancel_sent_, true)) return;
    call = *call_;
  }
  env_->service->Cancel(call);
}

void GenerateCall::Abandon() {
  bool cancel = false;
  {
    const MutexLock lock(mutex_);
    if (!finished_ && !abandoned_) {
      abandoned_ = true;
      const bool expired = record_.DeadlinePassed();
      if (expired) cancel_at_ = absl::Now() + kDeadlineTransit + kDeadlineGrace;
      cancel = !expired;
      // With a write in flight its OnWriteDone(false) comes next and finishes.
      FlushLocked();
    }
  }
  if (cancel) CancelCall();
}

void GenerateCall::Apply(decltype(StreamEvent::event) event) {
  const MutexLock lock(mutex_);
  if (end_) return;  // nothing follows an End, whatever is published
  if (auto* end = std::get_if<End>(&event)) {
    record_.SetUsage(end->usage);
    end_ = std::move(*end);
  }
  if (finished_ || abandoned_) return;
  if (auto* accepted = std::get_if<Accepted>(&event)) {
    Take(std::move(*accepted));
  } else if (auto* tokens = std::get_if<TokenEvent>(&event)) {
    record_.SawOutput();
    Take(std::move(*tokens));
  } else if (auto* vector = std::get_if<VectorEvent>(&event)) {
    Take(std::move(*vector));
  }
}

void GenerateCall::Flush() {
  const MutexLock lock(mutex_);
  FlushLocked();
}

void GenerateCall::FlushLocked() {
  if (finished_ || writing_) return;
  if (abandoned_) {
    const bool expired = cancel_at_ != absl::InfiniteFuture();
    return FinishLocked(expired ? absl::DeadlineExceededError("the deadline has passed")
                                : absl::CancelledError("the client has gone"));
  }
  WritePending();
}

void GenerateCall::Sweep(absl::Time now) {
  bool cancel = false;
  {
    const MutexLock lock(mutex_);
    cancel = now >= cancel_at_;
    // TryCancel makes the stuck operation fail; OnWriteDone(false) or OnDone does the rest.
    if (!done_ && now - busy_since_ > env_->write_timeout) context_->TryCancel();
  }
  if (cancel) CancelCall();
}

void GenerateCall::OnDone() {
  const MutexLock lock(mutex_);
  done_ = true;
}

void GenerateCall::FinishLocked(const absl::Status& status, absl::Duration retry_after) {
  finished_ = true;
  busy_since_ = absl::Now();
  context_->Finish(record_.Close(status, retry_after));
}

bool GenerateCall::BeginWrite(const google::protobuf::Message& message) {
  if (const absl::Status encoded = context_->Encode(message); !encoded.ok()) {
    FinishLocked(encoded);
    return false;
  }
  record_.AddInitialMetadata();
  busy_since_ = absl::Now();
  return true;
}

void GenerateCall::OnWriteDone(bool ok) {
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    busy_since_ = absl::InfiniteFuture();
  }
  // Whether OnCancel has been here or not: both ways lead to one Cancel and one Finish.
  if (!ok) Abandon();
  Flush();
}

void GenerateCall::FinishWith(const google::protobuf::Message& message) {
  if (!BeginWrite(message)) return;
  finished_ = true;
  context_->FinishWithMessage(record_.Close(absl::OkStatus()));
}

void UnaryGenerate::Take(Accepted accepted) {
  answer_.set_request_id(record_.request_id());
  answer_.set_model(std::move(accepted.model));
  answer_.set_seed(accepted.seed);
  answer_.set_system_fingerprint(std::move(accepted.system_fingerprint));
}

void UnaryGenerate::Take(TokenEvent tokens) {
  const int choice = tokens.choice;
  for (int i = answer_.choices_size(); i <= choice; ++i) answer_.add_choices()->set_index(i);
  MergeInto(std::move(tokens), *answer_.mutable_choices(choice));
}

void UnaryGenerate::WritePending() {
  if (!end_) return;
  if (!end_->status.ok()) return FinishLocked(end_->status, end_->retry_after);
  *answer_.mutable_usage() = EncodeUsage(end_->usage);
  FinishWith(answer_);
}

void StreamGenerate::Take(Accepted accepted) {
  v1::Accepted& message = *pending_.emplace_back().event.mutable_accepted();
  message.set_request_id(record_.request_id());
  message.set_model(std::move(accepted.model));
  message.set_seed(accepted.seed);
  message.set_prompt_tokens(accepted.prompt_tokens);
  message.set_system_fingerprint(std::move(accepted.system_fingerprint));
}

void StreamGenerate::Take(TokenEvent tokens) {
  for (auto pending = pending_.rbegin(); pending != pending_.rend(); ++pending) {
    if (!pending->event.has_delta() || pending->event.delta().choice() != tokens.choice) continue;
    if (pending->bytes > kMaxDeltaBytes) break;
    pending->bytes += MergeInto(std::move(tokens), *pending->event.mutable_delta());
    return;
  }
  Pending& pending = pending_.emplace_back();
  pending.bytes = MergeInto(std::move(tokens), *pending.event.mutable_delta());
}

void StreamGenerate::WritePending() {
  if (!pending_.empty()) {
    const v1::GenerateEvent event = std::move(pending_.front().event);
    pending_.pop_front();
    if (!BeginWrite(event)) return;
    writing_ = true;
    return context_->StartWrite();
  }
  if (!end_) return;
  if (!end_->status.ok()) return FinishLocked(end_->status, end_->retry_after);
  v1::GenerateEvent event;
  *event.mutable_end()->mutable_usage() = EncodeUsage(end_->usage);
  FinishWith(event);
}

}  // namespace sluice::rpc
