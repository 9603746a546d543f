#include "rpc/call_record.h"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "rpc/codec.h"

namespace sluice::rpc {
namespace {

constexpr size_t kMaxIdBytes = 128;

bool IsId(std::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

std::string NewRequestId() {
  std::array<unsigned char, 16> random{};
  // Ids need not be secret: should the generator fail, an id from the clock still tells calls
  // apart.
  if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1) {
    return fmt::format("req-{:x}", absl::ToUnixNanos(absl::Now()));
  }
  std::string id = "req-";
  for (const unsigned char byte : random) id += fmt::format("{:02x}", byte);
  return id;
}

bool IsServerFault(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal || code == absl::StatusCode::kUnknown ||
         code == absl::StatusCode::kDataLoss;
}

}  // namespace

CallRecord::CallRecord(Environment* env, std::string_view method, CallContext* context)
    : env_(env), method_(method), context_(context), peer_(context->Peer()), begin_(absl::Now()) {
  env_->open_calls.fetch_add(1);
  request_id_ = context_->Metadata("x-request-id");
  // An id from a proxy is no reason to refuse a call, but only a sound one is passed on.
  has_client_id_ = IsId(request_id_);
  if (!has_client_id_) request_id_ = NewRequestId();
}

CallRecord::~CallRecord() {
  env_->open_calls.fetch_sub(1);
  const absl::Time now = absl::Now();
  const std::string code = absl::StatusCodeToString(ToWireError(status_).grpc_code);
  const std::string shown_code = status_.ok() ? "OK" : code;
  env_->metrics->CountRpc(method_, shown_code, now - begin_);
  const absl::Duration first_output = std::min(first_output_, now) - begin_;
  Log(IsServerFault(status_.code()) ? LogLevel::kWarn : LogLevel::kInfo, "rpc",
      {{"request_id", request_id_},
       {"method", method_},
       {"code", shown_code},
       {"error", std::string(status_.message())},
       {"key", caller_.name},
       {"tenant", caller_.tenant},
       {"peer", peer_},
       {"prompt_tokens", usage_.prompt_tokens},
       {"output_tokens", usage_.output_tokens},
       {"cached_tokens", usage_.cached_tokens},
       {"first_output_s", first_output},
       {"total_s", now - begin_}});
}

absl::Status CallRecord::Admit() {
  if (context_->CountMetadata("authorization") > 1) {
    return WithErrorCode(absl::UnauthenticatedError("there is more than one authorization"),
                         "invalid_api_key");
  }
  ASSIGN_OR_RETURN(caller_, env_->keys->Authenticate(context_->Metadata("authorization")));
  if (env_->open_calls.load() > env_->max_calls) {
    env_->metrics->CountRefused("too_many_calls");
    return absl::ResourceExhaustedError(
        fmt::format("more than {} calls are open", env_->max_calls));
  }
  return absl::OkStatus();
}

absl::Status CallRecord::TakeIds(std::string request_id, std::string_view idempotency_key) {
  const auto check = [](std::string_view field, std::string_view id) {
    if (id.empty() || IsId(id)) return absl::OkStatus();
    return FieldError(
        field, fmt::format("{} is not 1 to {} visible ASCII characters", field, kMaxIdBytes));
  };
  RETURN_IF_ERROR(check("request_id", request_id));
  RETURN_IF_ERROR(check("idempotency_key", idempotency_key));
  if (!has_client_id_ && !request_id.empty()) request_id_ = std::move(request_id);
  return absl::OkStatus();
}

void CallRecord::AddInitialMetadata() {
  if (!std::exchange(has_initial_metadata_, true))
    context_->AddInitialMetadata("x-request-id", request_id_);
}

grpc::Status CallRecord::Close(const absl::Status& status, absl::Duration retry_after) {
  AddInitialMetadata();
  status_ = status;
  if (status.ok()) return grpc::Status::OK;
  if (retry_after > absl::ZeroDuration()) {
    // Whole seconds, as HTTP's Retry-After; the finer form is the one of gRPC's retry design (A6).
    const int64_t seconds = absl::ToInt64Seconds(absl::Ceil(retry_after, absl::Seconds(1)));
    context_->AddTrailingMetadata("retry-after", fmt::to_string(seconds));
    context_->AddTrailingMetadata(
        "grpc-retry-pushback-ms",
        fmt::to_string(absl::ToInt64Milliseconds(absl::Ceil(retry_after, absl::Milliseconds(1)))));
  }
  if (const std::string code = ErrorCode(status); !code.empty())
    context_->AddTrailingMetadata("sluice-error-code", code);
  // gRPC takes no other metadata, and ends the process over it.
  if (const std::string field = ProtoField(ErrorParam(status)); IsId(field))
    context_->AddTrailingMetadata("sluice-error-field", field);
  return EncodeStatus(status, retry_after);
}

absl::Time CallRecord::Deadline() const {
  const absl::Time deadline = context_->Deadline();
  if (deadline == absl::InfiniteFuture()) {
    const bool has_default = env_->default_deadline > absl::ZeroDuration();
    return has_default ? env_->clock->Now() + env_->default_deadline : absl::InfiniteFuture();
  }
  // The wire carries a time left, not a time of day: it is counted on the clock that the service
  // lives by.
  return env_->clock->Now() + (deadline - absl::Now());
}

bool CallRecord::DeadlinePassed() const {
  return context_->Deadline() - kDeadlineTransit <= absl::Now();
}

void CallRecord::SawOutput() {
  if (first_output_ == absl::InfiniteFuture()) first_output_ = absl::Now();
}

}  // namespace sluice::rpc
