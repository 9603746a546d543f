// CPU time a token of the engine's own work: scheduler, engine loop and output, over an executor
// that computes nothing and a queue that only counts. `bench_engine [rows] [output tokens]`.
//
// Three figures: the process's CPU time less the executor's own, by output token; allocations by
// output token in steady state (every row generating, none beginning or ending); and the time of
// one Schedule for all rows.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "base/check.h"
#include "engine/engine.h"
#include "scheduler/scheduler.h"

namespace {

std::atomic<int64_t> g_allocations{0};  // the global operators can reach nothing else

}  // namespace

void* operator new(size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace sluice {
namespace {

constexpr int32_t kPromptTokens = 64;

double CpuSeconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

class WordTokenizer final : public Tokenizer {
 public:
  [[nodiscard]] std::vector<TokenId> Encode(std::span<const PromptSegment>) const override {
    return {};
  }
  [[nodiscard]] EncodedTexts EncodeTexts(const Text&, const Text*, size_t) const override {
    return {};
  }
  [[nodiscard]] std::string Decode(std::span<const TokenId>, bool) const override { return {}; }
  [[nodiscard]] std::string_view TokenBytes(TokenId) const override { return " word"; }
  [[nodiscard]] bool IsSpecial(TokenId) const override { return false; }
  [[nodiscard]] int32_t vocab_size() const override { return 1000; }
};

// Token 7 for every row that samples.
StepResult ResultOf(const BatchPlan& plan) {
  StepResult result;
  result.step = plan.step;
  result.rows.reserve(plan.rows.size());
  for (const Row& row : plan.rows) {
    RowResult& r = result.rows.emplace_back();
    r.sequence = row.sequence;
    if (row.output == RowOutput::kSample) r.tokens.push_back({.token = 7});
  }
  return result;
}

// Counts its own CPU time.
class EmptyExecutor final : public Executor {
 public:
  [[nodiscard]] int max_steps_in_flight() const override { return 2; }
  absl::Status Submit(BatchPlan plan) override {
    const double begin = CpuSeconds(CLOCK_THREAD_CPUTIME_ID);
    plans_.push_back(std::move(plan));
    seconds += CpuSeconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    return absl::OkStatus();
  }
  absl::StatusOr<StepResult> Wait(StepId) override {
    const double begin = CpuSeconds(CLOCK_THREAD_CPUTIME_ID);
    const BatchPlan plan = std::move(plans_.front());
    plans_.pop_front();
    StepResult result = ResultOf(plan);
    seconds += CpuSeconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    return result;
  }
  double seconds = 0;  // engine thread only, until the engine idles

 private:
  std::deque<BatchPlan> plans_;
};

class CountingQueue final : public EventQueue {
 public:
  void Publish(std::vector<StreamEvent> events) override {
    for (const StreamEvent& event : events) {
      if (const auto* token = std::get_if<TokenEvent>(&event.event)) {
        tokens += static_cast<int64_t>(token->tokens.size());
      } else if (std::holds_alternative<End>(event.event)) {
        ++ends;
      }
    }
    const int64_t allocations = g_allocations.load(std::memory_order_relaxed);
    if (tokens.load() > steady_from && first_allocations == 0) {
      first_allocations = allocations;
      first_tokens = tokens;
    }
    if (ends.load() == 0) {
      last_allocations = allocations;
      last_tokens = tokens;
    }
  }
  std::atomic<int64_t> tokens{0}, ends{0};
  int64_t steady_from = 0;  // tokens
  int64_t first_allocations = 0, first_tokens = 0, last_allocations = 0, last_tokens = 0;
};

SchedulerConfig ConfigOf(int32_t rows, int32_t output_tokens) {
  return {.max_rows = rows,
          .max_step_tokens = std::max(rows, 8192),
          .num_kv_blocks = (kPromptTokens + output_tokens + 15) / 16 * rows + 16,
          .max_model_len = kPromptTokens + output_tokens,
          .max_waiting_sequences = 1 << 20,
          .max_waiting_tokens = 1 << 30,
          .max_steps_in_flight = 2};
}

// One step in flight, as when the device is the slower part.
void TimeSchedule(int32_t rows, int32_t output_tokens) {
  Scheduler scheduler(ConfigOf(rows, output_tokens));
  const absl::Time now = absl::UnixEpoch();
  for (int32_t i = 0; i < rows; ++i) {
    SequenceSpec spec{.id = static_cast<SequenceId>(i) + 1,
                      .sampling = std::make_shared<const SamplingParams>(),
                      .prompt_tokens = std::vector<TokenId>(kPromptTokens, i % 1000),
                      .max_output_tokens = output_tokens,
                      .arrival_time = now};
    SLUICE_CHECK(scheduler.Add(std::move(spec)).ok(), "sequence {} does not fit", i);
  }
  std::vector<double> full;  // microseconds of plans in which every row generates
  BatchPlan before = scheduler.Schedule(now).plan;
  while (scheduler.HasSequences()) {
    const double begin = CpuSeconds(CLOCK_THREAD_CPUTIME_ID);
    BatchPlan plan = scheduler.Schedule(now).plan;
    const double seconds = CpuSeconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    if (std::ssize(plan.rows) == rows && std::ssize(plan.tokens) == rows)
      full.push_back(seconds * 1e6);
    if (!before.rows.empty()) scheduler.Apply(ResultOf(before));
    before = std::move(plan);
  }
  std::sort(full.begin(), full.end());
  fmt::print(
      "{} rows, {} plans: a schedule takes {:.0f} us in the median, p99 {:.0f}, at most {:.0f}\n",
      rows, full.size(), full[full.size() / 2], full[full.size() * 99 / 100], full.back());
}

int Run(int32_t rows, int32_t output_tokens) {
  EngineOptions options;
  options.scheduler = ConfigOf(rows, output_tokens);
  const WordTokenizer tokenizer;
  Metrics metrics("bench", "");
  const RealClock clock;
  auto owned = std::make_unique<EmptyExecutor>();
  EmptyExecutor& executor = *owned;
  CountingQueue queue;
  queue.steady_from = int64_t{rows} * output_tokens / 4;
  Engine engine(options, std::move(owned), tokenizer, metrics, clock);
  const double begin = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
  for (int32_t i = 0; i < rows; ++i) {
    Request request;
    request.call = static_cast<CallId>(i) + 1;
    request.queue = &queue;
    request.tag = static_cast<StreamTag>(i);
    request.prompt_tokens.assign(kPromptTokens, i % 1000);
    request.sampling = std::make_shared<const SamplingParams>();
    request.max_output_tokens = output_tokens;
    request.accepted_at = clock.Now();
    if (!engine.Submit(std::move(request)).ok()) return 1;
  }
  while (queue.ends.load() < rows) absl::SleepFor(absl::Milliseconds(5));
  const double seconds = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - begin;
  const auto tokens = static_cast<double>(queue.tokens.load());
  fmt::print(
      "{} rows, {} tokens: {:.3f} us a token, executor {:.3f} us besides; {:.3f} allocations a "
      "token\n",
      rows, queue.tokens.load(), (seconds - executor.seconds) / tokens * 1e6,
      executor.seconds / tokens * 1e6,
      static_cast<double>(queue.last_allocations - queue.first_allocations) /
          static_cast<double>(queue.last_tokens - queue.first_tokens));
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  const int32_t rows = argc > 1 ? std::atoi(argv[1]) : 1000;
  const int32_t tokens = argc > 2 ? std::atoi(argv[2]) : 500;
  sluice::TimeSchedule(rows, tokens);
  return sluice::Run(rows, tokens);
}
