#include "engine/admission.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/errors.h"
#include "base/retry_after.h"

namespace sluice {
namespace {

constexpr double kMemory = 5;  // seconds
constexpr absl::Duration kMinRetry = absl::Seconds(1), kMaxRetry = absl::Seconds(60);

}  // namespace

AdmissionLimits AdmissionLimits::Of(const SchedulerConfig& config, absl::Duration max_wait) {
  return {.max_waiting_sequences = config.max_waiting_sequences,
          .max_waiting_tokens = config.max_waiting_tokens,
          .max_wait = max_wait,
          .max_step_tokens = config.max_step_tokens};
}

Admission::Queue Admission::QueueOf(const Scheduler& scheduler) {
  Queue queue;
  for (const auto& [name, tenant] : scheduler.tenants()) {
    if (tenant.num_waiting == 0) continue;
    queue[name] = {tenant.num_waiting, tenant.num_waiting_tokens, tenant.weight};
  }
  return queue;
}

Admission::Queued Admission::QueuedOf(std::string_view tenant) const {
  const auto found = queue_.find(tenant);
  return found == queue_.end() ? Queued() : found->second;
}

// `excess_tokens` have to leave the queue before the request would be taken.
absl::Status Admission::Refuse(const std::string& message, std::string_view code,
                               double excess_tokens) const {
  absl::Duration retry = kMinRetry;
  if (rate_ > 0) retry = std::clamp(absl::Seconds(excess_tokens / rate_), kMinRetry, kMaxRetry);
  return WithRetryAfter(WithErrorCode(absl::ResourceExhaustedError(message), code), retry);
}

absl::Status Admission::CheckBounds(const Demand& demand) const {
  if (sequences_ == 0) return absl::OkStatus();
  const Queued own = QueuedOf(demand.tenant);
  const double tokens_a_sequence = static_cast<double>(tokens_) / static_cast<double>(sequences_);
  const auto excess = [](int64_t queued, int64_t more, int64_t limit) {
    return static_cast<double>(queued + more - limit);
  };
  if (sequences_ + demand.sequences > limits_.max_waiting_sequences) {
    return Refuse(
        fmt::format("{} sequences are waiting; the limit is {}", sequences_,
                    limits_.max_waiting_sequences),
        "queue_full",
        tokens_a_sequence * excess(sequences_, demand.sequences, limits_.max_waiting_sequences));
  }
  if (tokens_ + demand.tokens > limits_.max_waiting_tokens) {
    return Refuse(fmt::format("{} prompt tokens are waiting; the limit is {}", tokens_,
                              limits_.max_waiting_tokens),
                  "queue_full", excess(tokens_, demand.tokens, limits_.max_waiting_tokens));
  }
  if (own.sequences == 0) return absl::OkStatus();
  const auto share = [&](int64_t limit) {
    return std::max<int64_t>(
        1, static_cast<int64_t>(demand.max_queue_share * static_cast<double>(limit)));
  };
  const int64_t max_sequences = share(limits_.max_waiting_sequences),
                max_tokens = share(limits_.max_waiting_tokens);
  if (own.sequences + demand.sequences > max_sequences) {
    return Refuse(
        fmt::format("{} sequences of the tenant are waiting; its share of the queue is {}",
                    own.sequences, max_sequences),
        "queue_share", tokens_a_sequence * excess(own.sequences, demand.sequences, max_sequences));
  }
  if (own.tokens + demand.tokens > max_tokens) {
    return Refuse(
        fmt::format("{} prompt tokens of the tenant are waiting; its share of the queue is {}",
                    own.tokens, max_tokens),
        "queue_share", excess(own.tokens, demand.tokens, max_tokens));
  }
  return absl::OkStatus();
}

absl::Status Admission::Check(const Demand& demand, absl::Time now) const {
  if (absl::Status bounds = CheckBounds(demand); !bounds.ok()) return bounds;
  const absl::Duration wait = EstimatedWait(demand);
  if (limits_.max_wait > absl::ZeroDuration() && wait > limits_.max_wait) {
    return Refuse(fmt::format("the request would wait for about {:.1f} s; the limit is {:.1f} s",
                              absl::ToDoubleSeconds(wait), absl::ToDoubleSeconds(limits_.max_wait)),
                  "wait_too_long", absl::ToDoubleSeconds(wait - limits_.max_wait) * rate_);
  }
  if (demand.deadline == absl::InfiniteFuture()) return absl::OkStatus();
  const absl::Duration first = wait + EstimatedPrefill(demand.tokens), left = demand.deadline - now;
  if (first == absl::ZeroDuration() || first <= left) return absl::OkStatus();
  return WithRetryAfter(
      WithErrorCode(absl::DeadlineExceededError(fmt::format(
                        "the first token would come in about {:.2f} s; the deadline is in {:.2f} s",
                        absl::ToDoubleSeconds(first), absl::ToDoubleSeconds(left))),
                    "deadline_unreachable"),
      std::clamp(first - left, kMinRetry, kMaxRetry));
}

absl::Duration Admission::EstimatedWait(const Demand& demand) const {
  if (rate_ <= 0 || sequences_ == 0) return absl::ZeroDuration();
  const Queued own = QueuedOf(demand.tenant);
  const double backlog = static_cast<double>(own.tokens + demand.tokens) / demand.weight;
  auto before = static_cast<double>(own.tokens);
  for (const auto& [tenant, queued] : queue_) {
    if (tenant == demand.tenant) continue;
    before += std::min(static_cast<double>(queued.tokens), backlog * queued.weight);
  }
  return absl::Seconds(before / rate_);
}

absl::Duration Admission::EstimatedPrefill(int64_t tokens) const {
  absl::Duration sum;
  const int64_t whole = tokens / limits_.max_step_tokens, rest = tokens % limits_.max_step_tokens;
  if (whole > 0)
    sum += whole * durations_.Typical(limits_.max_step_tokens).value_or(absl::ZeroDuration());
  if (rest > 0) sum += durations_.Typical(rest).value_or(absl::ZeroDuration());
  return sum;
}

void Admission::Add(const Demand& demand) {
  Queued& own = queue_[std::string(demand.tenant)];
  own.weight = demand.weight;
  own.sequences += demand.sequences;
  own.tokens += demand.tokens;
  sequences_ += demand.sequences;
  tokens_ += demand.tokens;
}

void Admission::SetQueue(Queue queue) {
  queue_ = std::move(queue);
  sequences_ = tokens_ = 0;
  for (const auto& [tenant, queued] : queue_) {
    sequences_ += queued.sequences;
    tokens_ += queued.tokens;
  }
}

// Only time with a backlog at both ends counts: without one the queue drains as fast as it fills.
void Admission::StepEnded(absl::Time now, int64_t admitted_tokens, bool backlog) {
  const int64_t admitted = admitted_tokens - std::exchange(last_admitted_, admitted_tokens);
  const absl::Duration step = now - std::exchange(last_end_, now);
  const bool backlog_before = std::exchange(last_backlog_, backlog);
  if (!backlog_before || !backlog || step <= absl::ZeroDuration()) return;
  const double seconds = absl::ToDoubleSeconds(step);
  seconds_ = std::min(seconds_ + seconds, kMemory);
  const double weight = std::min(1.0, seconds / seconds_);
  rate_ += weight * (static_cast<double>(admitted) / seconds - rate_);
}

}  // namespace sluice
