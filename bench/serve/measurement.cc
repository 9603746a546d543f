#include "bench/serve/measurement.h"

#include <algorithm>

namespace sluice::load {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr size_t kMaxBins = 100'000;  // a day has 86,400 seconds
constexpr size_t kMaxKinds = 200;
constexpr size_t kMaxReasonBytes = 40;

}  // namespace

Measurement::Measurement(int64_t start, int64_t begin_ns, int64_t end_ns, Slo limits)
    : start_ns(start), slo(limits), begin_ns_(begin_ns), end_ns_(end_ns) {}

TimelineBin& Measurement::BinAt(int64_t time_ns) {
  const auto second = static_cast<size_t>(std::max<int64_t>(time_ns - start_ns, 0) / kSecond);
  const size_t index = std::min(second, kMaxBins - 1);
  if (index >= timeline.size()) {
    TimelineBin next;
    if (!timeline.empty()) next.in_flight = timeline.back().in_flight;
    timeline.resize(index + 1, next);
  }
  return timeline[index];
}

void Measurement::Start(Exchange& exchange, int64_t now_ns) {
  exchange.sent_ns = now_ns;
  ++all_started;
  TimelineBin& bin = BinAt(now_ns);
  ++bin.started;
  bin.in_flight = all_started - all_ended;
  max_in_flight = std::max(max_in_flight, bin.in_flight);
  if (InWindow(exchange.scheduled_ns)) late.Record(now_ns - exchange.scheduled_ns);
}

void Measurement::Text(Exchange& exchange, std::string_view text, int64_t now_ns) {
  if (exchange.chunks == 0) {
    exchange.first_ns = now_ns;
  } else {
    const int64_t gap = now_ns - exchange.last_ns;
    exchange.max_gap_ns = std::max(exchange.max_gap_ns, gap);
    if (!exchange.slow && InWindow(exchange.scheduled_ns)) itl.Record(gap);
  }
  exchange.last_ns = now_ns;
  ++exchange.chunks;
  ++all_chunks;
  if (InWindow(now_ns)) ++exchange.window_chunks;
  ++BinAt(now_ns).chunks;
  if (!exchange.script.Take(text) && exchange.error.empty()) exchange.error = "wrong_content";
  constexpr size_t kMaxAnswer = 4 << 20;
  if (exchange.keep_answer && exchange.answer.size() < kMaxAnswer) exchange.answer.append(text);
}

bool Measurement::IsGood(const RequestRecord& record) const {
  const auto keeps = [](int64_t value, int64_t limit) { return limit == 0 || value <= limit; };
  return record.ok && keeps(record.ttft_ns, slo.ttft_ns) && keeps(record.max_gap_ns, slo.itl_ns) &&
         keeps(record.tpot_ns, slo.tpot_ns) && keeps(record.e2e_ns, slo.e2e_ns);
}

void Measurement::End(Exchange& exchange, int64_t now_ns) {
  exchange.end_ns = now_ns;
  ++all_ended;
  const int64_t tokens = exchange.output_tokens >= 0 ? exchange.output_tokens : exchange.chunks;
  if (exchange.error.empty() && !exchange.script.IsWhole(tokens)) exchange.error = "wrong_content";
  all_tokens += tokens;
  TimelineBin& bin = BinAt(now_ns);
  bin.in_flight = all_started - all_ended;
  const bool ok = exchange.error.empty();
  ++(ok ? bin.finished : bin.failed);
  if (exchange.chunks > 0)
    window_tokens_ += static_cast<double>(exchange.window_chunks) *
                      (ok ? static_cast<double>(tokens) / static_cast<double>(exchange.chunks) : 1);
  RequestRecord record{
      .scheduled_ns = exchange.scheduled_ns - start_ns,
      .sent_ns = exchange.sent_ns - start_ns,
      .ttft_ns = exchange.first_ns == 0 ? 0 : exchange.first_ns - exchange.scheduled_ns,
      .tpot_ns = 0,
      .max_gap_ns = exchange.max_gap_ns,
      .e2e_ns = now_ns - exchange.scheduled_ns,
      .prompt_tokens = std::max<int64_t>(exchange.prompt_tokens, 0),
      .output_tokens = tokens,
      .chunks = exchange.chunks,
      .measured = InWindow(exchange.scheduled_ns),
      .ok = ok,
      .good = false,
      .slow = exchange.slow};
  if (tokens > 1 && exchange.first_ns != 0)
    record.tpot_ns = (exchange.last_ns - exchange.first_ns) / (tokens - 1);
  record.good = IsGood(record);
  if (records.size() < kMaxRecords) records.push_back(record);
  if (!ok && (errors.size() < kMaxKinds || errors.contains(exchange.error))) {
    ErrorCount& count = errors[exchange.error];
    if (count.count++ == 0) count.example = exchange.message;
    count.after.Record(record.e2e_ns);
  }
  if (!record.measured) return;
  ++scheduled;
  slow += exchange.slow ? 1 : 0;
  if (!ok) {
    ++failed;
    return;
  }
  ++completed;
  const std::string reason = exchange.finish_reason.substr(0, kMaxReasonBytes);
  if (!reason.empty() && (finish_reasons.size() < kMaxKinds || finish_reasons.contains(reason)))
    ++finish_reasons[reason];
  good += record.good ? 1 : 0;
  prompt_tokens += record.prompt_tokens;
  output_tokens += tokens;
  cached_tokens += std::max<int64_t>(exchange.cached_tokens, 0);
  chunks += exchange.chunks;
  untold_usage += exchange.output_tokens < 0 ? 1 : 0;
  if (exchange.slow) return;
  if (exchange.first_ns != 0) ttft.Record(record.ttft_ns);
  if (record.tpot_ns > 0) tpot.Record(record.tpot_ns);
  e2e.Record(record.e2e_ns);
}

void Measurement::Bytes(int64_t bytes, int64_t data_lines) {
  wire_bytes += bytes;
  wire_data_lines += data_lines;
}

double Measurement::WindowSeconds() const {
  return std::max(static_cast<double>(end_ns_ - begin_ns_), 1.0) / static_cast<double>(kSecond);
}

double Measurement::ChunksPerToken() const {
  const auto ratio = [](int64_t part, int64_t whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  return output_tokens == 0 ? ratio(all_chunks, all_tokens) : ratio(chunks, output_tokens);
}

}  // namespace sluice::load
