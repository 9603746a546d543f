// What a run has measured so far.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bench/serve/exchange.h"
#include "bench/serve/histogram.h"

namespace sluice::load {

// What a request must keep to be good. 0: no limit.
struct Slo {
  int64_t ttft_ns = 0;
  int64_t itl_ns = 0;  // the longest gap
  int64_t tpot_ns = 0;
  int64_t e2e_ns = 0;
  [[nodiscard]] bool Any() const { return (ttft_ns | itl_ns | tpot_ns | e2e_ns) != 0; }
};

// A finished request in short. Times count from the run's start; durations from the schedule.
struct RequestRecord {
  int64_t scheduled_ns, sent_ns;
  int64_t ttft_ns, tpot_ns, max_gap_ns, e2e_ns;  // 0: not known
  int64_t prompt_tokens, output_tokens, chunks;
  bool measured, ok, good, slow;
};

// One second of the run.
struct TimelineBin {
  int64_t started = 0, finished = 0, failed = 0, chunks = 0;
  int64_t in_flight = 0;  // at its end
};

struct ErrorCount {
  int64_t count = 0;
  std::string example;  // the first one's message
  Histogram after;      // ns from the schedule
};

// Requests scheduled inside the window count; those before warm the server up. Not thread-safe.
class Measurement {
 public:
  // The window [begin_ns, end_ns); end INT64_MAX: until CutWindow.
  Measurement(int64_t start_ns, int64_t begin_ns, int64_t end_ns, Slo slo);

  void Start(Exchange& exchange, int64_t now_ns);
  void Text(Exchange& exchange, std::string_view text, int64_t now_ns);
  void End(Exchange& exchange, int64_t now_ns);
  void Bytes(int64_t bytes, int64_t data_lines);

  // The run is over at `now_ns`, and with it the window if that has not ended yet.
  void CutWindow(int64_t now_ns) { end_ns_ = std::min(end_ns_, now_ns); }
  [[nodiscard]] bool InWindow(int64_t time_ns) const {
    return time_ns >= begin_ns_ && time_ns < end_ns_;
  }
  // Seconds of the window.
  [[nodiscard]] double WindowSeconds() const;
  // Of the window's completed requests; of the whole run where there is none.
  [[nodiscard]] double ChunksPerToken() const;
  // Tokens that arrived inside the window: its chunks, each worth its request's tokens a chunk.
  [[nodiscard]] double WindowTokens() const { return window_tokens_; }

  // Of requests of the window that ended well and were not slow on purpose; ns.
  Histogram ttft, itl, tpot, e2e;
  Histogram late;  // of sending, against the schedule
  // Of the window's requests.
  int64_t scheduled = 0, completed = 0, failed = 0, good = 0, slow = 0;
  int64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0, chunks = 0;
  int64_t untold_usage =
      0;  // completed requests whose answer had no usage; a chunk is a token then
  std::map<std::string, int64_t> finish_reasons;  // of completed ones, where they were told
  // Of the whole run.
  int64_t all_started = 0, all_ended = 0, all_chunks = 0, all_tokens = 0, wire_bytes = 0,
          wire_data_lines = 0;
  int64_t max_in_flight = 0;
  std::map<std::string, ErrorCount> errors;
  std::vector<TimelineBin> timeline;
  std::vector<RequestRecord> records;  // the first kMaxRecords
  static constexpr size_t kMaxRecords = 1'000'000;

  const int64_t start_ns;
  const Slo slo;

 private:
  TimelineBin& BinAt(int64_t time_ns);
  [[nodiscard]] bool IsGood(const RequestRecord& record) const;

  const int64_t begin_ns_;
  int64_t end_ns_;
  double window_tokens_ = 0;
};

}  // namespace sluice::load
