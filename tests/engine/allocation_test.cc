// In steady state a token costs no allocation: what is allocated is by step, however many rows it
// has.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "executor/simulated_executor.h"
#include "tests/engine/letter_tokenizer.h"
#include "tests/model/allocation_peak.h"

namespace sluice {
namespace {

constexpr int kOutputTokens = 300;
constexpr int kSteadySteps = 200;  // at least

// Counts the engine thread's allocations while every row generates. Holds the engine up until all
// rows are submitted, however slow the machine is: else the first would end before the last begins.
class CountingQueue final : public EventQueue {
 public:
  explicit CountingQueue(int rows) : rows_(rows) {}

  void Publish(std::vector<StreamEvent> events) override {
    submitted_.wait(false);
    int tokens = 0;
    for (const StreamEvent& event : events) {
      tokens += std::holds_alternative<TokenEvent>(event.event) ? 1 : 0;
      ended_ += std::holds_alternative<End>(event.event) ? 1 : 0;
    }
    if (tokens == rows_ && ended_ == 0) {
      if (++steps_ == kSkipped) allocations_.emplace();
      if (steps_ > kSkipped) {
        steady_steps_ = steps_ - kSkipped;
        steady_allocations_ = allocations_->count();
      }
    }
    if (ended_ == rows_) done_.store(true);
  }

  void AllAreSubmitted() {
    submitted_.store(true);
    submitted_.notify_all();
  }
  [[nodiscard]] bool done() const { return done_.load(); }
  // After done().
  [[nodiscard]] int steady_steps() const { return steady_steps_; }
  [[nodiscard]] double allocations_a_step() const {
    return static_cast<double>(steady_allocations_) / steady_steps_;
  }

 private:
  static constexpr int kSkipped = 50;  // steps: buffers have grown by then
  const int rows_;
  int steps_ = 0, steady_steps_ = 0, ended_ = 0;
  size_t steady_allocations_ = 0;
  std::optional<AllocationPeak> allocations_;
  std::atomic<bool> submitted_{false}, done_{false};
};

double AllocationsAStep(int32_t rows) {
  SimulatedExecutorConfig simulated;
  simulated.max_rows = rows;
  simulated.num_kv_blocks = rows * 24;
  EngineOptions options;
  options.scheduler.max_rows = rows;
  options.scheduler.max_step_tokens = 8 * rows;  // all prompts in one step
  options.scheduler.num_kv_blocks = simulated.num_kv_blocks;
  options.scheduler.max_model_len = 16 + kOutputTokens;
  options.scheduler.max_waiting_sequences = rows;
  options.scheduler.max_steps_in_flight = simulated.max_steps_in_flight;
  const LetterTokenizer tokenizer;
  const RealClock clock;
  Metrics metrics("m", "");
  CountingQueue queue(rows);
  Engine engine(options, std::make_unique<SimulatedExecutor>(simulated), tokenizer, metrics, clock);
  for (int32_t i = 0; i < rows; ++i) {
    Request request;
    request.call = static_cast<CallId>(i) + 1;
    request.queue = &queue;
    request.tag = static_cast<StreamTag>(i);
    request.prompt_tokens = {i % 1000, i / 1000};
    request.sampling = std::make_shared<const SamplingParams>();
    request.max_output_tokens = kOutputTokens;
    request.accepted_at = clock.Now();
    EXPECT_TRUE(engine.Submit(std::move(request)).ok());
  }
  queue.AllAreSubmitted();
  while (!queue.done()) std::this_thread::yield();
  EXPECT_GE(queue.steady_steps(), kSteadySteps);
  return queue.allocations_a_step();
}

TEST(EngineAllocations, AreByStepAndNotByToken) {
  const double few = AllocationsAStep(64), many = AllocationsAStep(512);
  EXPECT_LT(many, 64);
  // 448 more tokens: a few arrays take a few more turns to grow.
  EXPECT_LT(many - few, 16);
}

}  // namespace
}  // namespace sluice
