#include "apps/offline_run.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <utility>
#include <variant>

#include "base/errors.h"
#include "bench/serve/monotonic.h"

namespace sluice {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kWait(20);  // at most, between two looks for Ctrl-C
constexpr int64_t kTick = 100'000'000;

}  // namespace

std::string OfflineRun::ErrorKindOf(const absl::Status& status) {
  std::string kind = ErrorCode(status);
  if (kind.empty()) kind = absl::StatusCodeToString(status.code());
  std::ranges::transform(kind, kind.begin(), [](unsigned char c) { return std::tolower(c); });
  return kind;
}

void OfflineRun::Run(const Source& next, load::Measurement& measured) {
  begin_ns_ = end_ns_ = progress_ns_ = load::NowNs();
  more_ = true;
  full_ = false;
  while (more_ || !flights_.empty()) {
    Tick(measured);
    if (!interrupted_ && hooks_.stopped && hooks_.stopped()) Stop(measured);
    if (!full_ && !refused_.empty()) {
      const StreamTag tag = refused_.front();
      refused_.pop_front();
      HandOver(tag);
    } else if (!full_ && more_) {
      std::optional<GenerateRequest> request = next();
      more_ = request.has_value();
      if (!more_) continue;
      const StreamTag tag = next_tag_++;
      Flight& flight = flights_[tag];
      flight.exchange.id = static_cast<int64_t>(tag);
      flight.exchange.conversation.max_tokens = request->sampling.max_tokens.value_or(0);
      flight.exchange.scheduled_ns = begin_ns_;
      flight.exact = request->sampling.ignore_eos;
      flight.request = *std::move(request);
      measured.Start(flight.exchange, load::NowNs());
      HandOver(tag);
    }
    Take(measured);
  }
}

void OfflineRun::HandOver(StreamTag tag) {
  Flight& flight = flights_.at(tag);
  flight.call = service_.Generate(flight.request, &queue_, tag);
}

void OfflineRun::Take(load::Measurement& measured) {
  const bool busy = !full_ && (more_ || !refused_.empty());
  std::vector<BlockingQueue::Batch> batches = queue_.Take(busy ? milliseconds(0) : kWait);
  if (batches.empty() && !busy) full_ = false;  // what frees a place need not tell us
  for (BlockingQueue::Batch& batch : batches) {
    for (StreamEvent& event : batch.events) Apply(event, batch.at_ns, measured);
  }
}

void OfflineRun::Apply(StreamEvent& event, int64_t at_ns, load::Measurement& measured) {
  const auto found = flights_.find(event.tag);
  if (found == flights_.end()) return;
  Flight& flight = found->second;
  if (const auto* accepted = std::get_if<Accepted>(&event.event)) {
    flight.accepted = true;
    ++num_accepted_;
    progress_ns_ = at_ns;
    flight.request = {};
    flight.exchange.prompt_tokens = accepted->prompt_tokens;
  } else if (const auto* token = std::get_if<TokenEvent>(&event.event)) {
    if (token->tokens.empty()) return;
    if (flight.exchange.chunks == 0) full_ = false;  // it has left the queue for a row
    measured.Text(flight.exchange, "", at_ns);
  } else if (const auto* end = std::get_if<End>(&event.event)) {
    Finish(event.tag, *end, at_ns, measured);
  }
}

// Whether a refusal is for a full queue, or for the wait in it, that will not stay so.
bool OfflineRun::MayHealBy(int64_t now_ns, const absl::Status& status) const {
  if (interrupted_ || !absl::IsResourceExhausted(status)) return false;
  return num_accepted_ > 0 || now_ns - progress_ns_ < absl::ToInt64Nanoseconds(hooks_.patience);
}

void OfflineRun::Finish(StreamTag tag, const End& end, int64_t at_ns, load::Measurement& measured) {
  Flight& flight = flights_.at(tag);
  load::Exchange& exchange = flight.exchange;
  if (!flight.accepted && MayHealBy(at_ns, end.status)) {
    refused_.push_back(tag);
    full_ = true;
    ++num_refusals_;
    return;
  }
  full_ = false;
  num_accepted_ -= flight.accepted ? 1 : 0;
  progress_ns_ = at_ns;
  if (interrupted_ && !end.status.ok()) {
    exchange.error = "interrupted";
  } else if (!end.status.ok()) {
    exchange.error = ErrorKindOf(end.status);
    exchange.message = std::string(end.status.message()).substr(0, 200);
  } else {
    exchange.output_tokens = end.usage.output_tokens;
    exchange.cached_tokens = end.usage.cached_tokens;
    exchange.finish_reason = FinishReasonName(end.reason);
    if (flight.exact && exchange.output_tokens != exchange.conversation.max_tokens)
      exchange.error = "wrong_length";
  }
  measured.End(exchange, at_ns);
  end_ns_ = std::max(end_ns_, at_ns);
  flights_.erase(tag);
}

void OfflineRun::Stop(load::Measurement& measured) {
  interrupted_ = true;
  more_ = false;
  const int64_t now_ns = load::NowNs();
  for (const StreamTag tag : std::exchange(refused_, {})) {
    load::Exchange& exchange = flights_.at(tag).exchange;
    exchange.error = "interrupted";
    measured.End(exchange, now_ns);
    flights_.erase(tag);
  }
  for (const auto& [tag, flight] : flights_) service_.Cancel(flight.call);
}

void OfflineRun::Tick(const load::Measurement& measured) {
  const int64_t now_ns = load::NowNs();
  if (!hooks_.tick || now_ns < next_tick_ns_) return;
  next_tick_ns_ = now_ns + kTick;
  const auto waiting = static_cast<int64_t>(refused_.size());
  hooks_.tick({.seconds = static_cast<double>(now_ns - measured.start_ns) / 1e9,
               .in_flight = static_cast<int64_t>(flights_.size()) - waiting,
               .waiting = waiting,
               .measured = &measured});
}

}  // namespace sluice
