#include "engine/engine.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/retry_after.h"
#include "executor/faulty_executor.h"
#include "executor/simulated_executor.h"
#include "tests/engine/letter_tokenizer.h"

namespace sluice {
namespace {

// Collects events; a test waits for what it needs.
class Collector final : public EventQueue {
 public:
  struct Stream {
    bool accepted = false;
    std::map<int, std::string> text;
    std::map<int, FinishReason> finish;
    int num_ends = 0;
    bool after_end = false;
    End end;
  };

  void Publish(std::vector<StreamEvent> events) override {
    {
      const MutexLock lock(mutex_);
      for (StreamEvent& event : events) Take(event);
    }
    changed_.notify_all();
  }

  Stream WaitForEnd(StreamTag tag) {
    return Wait(tag, [](const Stream& s) { return s.num_ends > 0; });
  }
  template <class Condition>
  Stream Wait(StreamTag tag, Condition condition) {
    std::unique_lock<Mutex> lock(mutex_);
    const bool happened =
        changed_.wait_for(lock, std::chrono::seconds(30), [&] { return condition(streams_[tag]); });
    EXPECT_TRUE(happened) << "stream " << tag;
    return streams_[tag];
  }

 private:
  void Take(StreamEvent& event) {
    Stream& stream = streams_[event.tag];
    stream.after_end |= stream.num_ends > 0;
    if (std::holds_alternative<Accepted>(event.event)) stream.accepted = true;
    if (auto* token = std::get_if<TokenEvent>(&event.event)) {
      stream.text[token->choice] += token->content.Reveal();
      if (token->finish) stream.finish[token->choice] = *token->finish;
    }
    if (auto* end = std::get_if<End>(&event.event)) {
      stream.num_ends++;
      stream.end = *end;
    }
  }

  Mutex mutex_;
  CondVar changed_;
  std::map<StreamTag, Stream> streams_;
};

class EngineTest : public testing::Test {
 protected:
  static constexpr int kBlocks = 64;

  void Start(PlantedFault fault = {}, int max_waiting = 64, bool plant_leak = false) {
    SimulatedExecutorConfig sim{.max_rows = 4, .num_kv_blocks = kBlocks};
    sim.output_token = [](SequenceId, int32_t index) { return index % 26; };
    std::unique_ptr<Executor> executor = std::make_unique<SimulatedExecutor>(sim);
    executor = std::make_unique<FaultyExecutor>(std::move(executor), fault);
    const SchedulerConfig scheduler{.max_rows = 4,
                                    .max_step_tokens = 64,
                                    .num_kv_blocks = kBlocks,
                                    .max_model_len = 512,
                                    .max_waiting_sequences = max_waiting,
                                    .max_steps_in_flight = 2};
    const EngineOptions options{
        .scheduler = scheduler, .stall_timeout = stall_timeout_, .plant_leak = plant_leak};
    engine_ = std::make_unique<Engine>(options, std::move(executor), tokenizer_, metrics_, clock_);
  }

  Request MakeRequest(CallId call, int max_output_tokens) {
    Request request;
    request.call = call;
    request.queue = &events_;
    request.tag = call;
    request.model = "m";
    request.prompt_tokens = {1, 2, 3, static_cast<TokenId>(call)};
    request.sampling =
        std::make_shared<const SamplingParams>(SamplingParams{.stop_token_ids = {25}});
    request.max_output_tokens = max_output_tokens;
    request.accepted_at = clock_.Now();
    return request;
  }

  void Submit(Request request) {
    metrics_.orphans.StreamOpened();
    ASSERT_TRUE(engine_->Submit(std::move(request)).ok());
  }

  absl::Duration stall_timeout_ = absl::Seconds(2);
  LetterTokenizer tokenizer_;
  RealClock clock_;
  Metrics metrics_{"m", ""};
  Collector events_;
  std::unique_ptr<Engine> engine_;  // last: it publishes to events_
};

TEST_F(EngineTest, ARequestEndsOnceWithItsTrueReasonAndUsage) {
  Start();
  Submit(MakeRequest(1, 5));
  const auto stream = events_.WaitForEnd(1);
  EXPECT_TRUE(stream.accepted);
  EXPECT_EQ(stream.text.at(0), "abcde");
  EXPECT_EQ(stream.finish.at(0), FinishReason::kLength);
  EXPECT_TRUE(stream.end.status.ok());
  EXPECT_EQ(stream.end.usage.prompt_tokens, 4);
  EXPECT_EQ(stream.end.usage.output_tokens, 5);
}

TEST_F(EngineTest, AStopTokenShowsNoText) {
  Start();
  Submit(MakeRequest(1, 100));
  const auto stream = events_.WaitForEnd(1);
  EXPECT_EQ(stream.text.at(0), "abcdefghijklmnopqrstuvwxy");
  EXPECT_EQ(stream.finish.at(0), FinishReason::kStop);
  EXPECT_EQ(stream.end.usage.output_tokens, 26);
}

TEST_F(EngineTest, AStopStringEndsTheChoiceBeforeIt) {
  Start();
  Request request = MakeRequest(1, 100);
  request.output.stop.emplace_back("hij");
  Submit(std::move(request));
  const auto stream = events_.WaitForEnd(1);
  EXPECT_EQ(stream.text.at(0), "abcdefg");
  EXPECT_EQ(stream.finish.at(0), FinishReason::kStop);
  EXPECT_EQ(stream.end.usage.output_tokens, 10);
}

TEST_F(EngineTest, EveryChoiceFinishesBeforeTheOneEnd) {
  Start();
  Request request = MakeRequest(1, 7);
  request.num_choices = 6;  // more than rows
  Submit(std::move(request));
  const auto stream = events_.WaitForEnd(1);
  EXPECT_EQ(stream.finish.size(), 6U);
  for (int choice = 0; choice < 6; choice++) EXPECT_EQ(stream.text.at(choice), "abcdefg");
  EXPECT_EQ(stream.end.usage.output_tokens, 42);
}

TEST_F(EngineTest, CancelEndsARunningRequestAndFreesItsBlocks) {
  Start();
  Request request = MakeRequest(1, 400);
  request.sampling = std::make_shared<const SamplingParams>();
  Submit(std::move(request));
  events_.Wait(1, [](const Collector::Stream& s) { return !s.text.empty(); });
  engine_->Cancel(1);
  const auto stream = events_.WaitForEnd(1);
  EXPECT_TRUE(absl::IsCancelled(stream.end.status) || stream.end.reason == FinishReason::kLength);
  Submit(MakeRequest(2, 3));
  EXPECT_TRUE(events_.WaitForEnd(2).end.status.ok());
  EXPECT_EQ(events_.WaitForEnd(1).num_ends, 1);
  EXPECT_EQ(metrics_.orphans.Orphans(), 0);
}

TEST_F(EngineTest, APassedDeadlineEndsWithDeadlineExceeded) {
  Start();
  Request request = MakeRequest(1, 400);
  request.deadline = clock_.Now() - absl::Seconds(1);
  Submit(std::move(request));
  const auto stream = events_.WaitForEnd(1);
  EXPECT_TRUE(absl::IsDeadlineExceeded(stream.end.status));
  EXPECT_EQ(stream.end.reason, FinishReason::kDeadline);
  EXPECT_EQ(ErrorCode(stream.end.status), "deadline_in_queue");
  EXPECT_TRUE(stream.text.empty());
}

TEST_F(EngineTest, ADeadlineThatPassesWhileItRunsSaysSo) {
  Start({.stall_step = 3, .stall = absl::Milliseconds(300)});
  Request request = MakeRequest(1, 400);
  request.sampling = std::make_shared<const SamplingParams>();
  request.deadline = clock_.Now() + absl::Milliseconds(200);
  Submit(std::move(request));
  const auto stream = events_.WaitForEnd(1);
  EXPECT_EQ(stream.end.reason, FinishReason::kDeadline);
  EXPECT_EQ(ErrorCode(stream.end.status), "deadline_while_running");
  EXPECT_FALSE(stream.text.empty());
}

TEST_F(EngineTest, AStalledStepIsNoProgressUntilItEnds) {
  stall_timeout_ = absl::Milliseconds(200);
  Start({.stall_step = 5, .stall = absl::Seconds(2)});
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_TRUE(engine_->health().advancing) << "idle";
  Submit(MakeRequest(1, 20));
  events_.Wait(1, [](const Collector::Stream& s) { return !s.text.empty(); });
  const absl::Time begin = clock_.Now();
  while (engine_->health().advancing && clock_.Now() - begin < absl::Seconds(10))
    absl::SleepFor(absl::Milliseconds(1));
  EXPECT_LT(clock_.Now() - begin, absl::Seconds(1));
  EXPECT_TRUE(events_.WaitForEnd(1).end.status.ok());
  EXPECT_TRUE(engine_->health().advancing);
}

// Counts how often the next step was there when the engine began to wait for one.
class OverlapProbe final : public Executor {
 public:
  explicit OverlapProbe(std::unique_ptr<Executor> executor) : executor_(std::move(executor)) {}
  [[nodiscard]] int max_steps_in_flight() const override { return 2; }
  absl::Status Submit(BatchPlan plan) override {
    last_submitted_ = plan.step;
    return executor_->Submit(std::move(plan));
  }
  absl::StatusOr<StepResult> Wait(StepId step) override {
    ++num_waits;
    num_overlapped += last_submitted_ > step ? 1 : 0;
    return executor_->Wait(step);
  }
  int num_waits = 0, num_overlapped = 0;

 private:
  const std::unique_ptr<Executor> executor_;
  StepId last_submitted_ = 0;
};

TEST_F(EngineTest, TheNextStepIsPlannedWhileOneRuns) {
  SimulatedExecutorConfig sim{.max_rows = 4, .num_kv_blocks = kBlocks};
  auto executor = std::make_unique<OverlapProbe>(std::make_unique<SimulatedExecutor>(sim));
  const OverlapProbe& probe = *executor;
  const SchedulerConfig scheduler{.max_rows = 4,
                                  .max_step_tokens = 64,
                                  .num_kv_blocks = kBlocks,
                                  .max_model_len = 512,
                                  .max_steps_in_flight = 2};
  engine_ = std::make_unique<Engine>(EngineOptions{.scheduler = scheduler}, std::move(executor),
                                     tokenizer_, metrics_, clock_);
  Request request = MakeRequest(1, 200);
  request.sampling = std::make_shared<const SamplingParams>();
  Submit(std::move(request));
  EXPECT_TRUE(events_.WaitForEnd(1).end.status.ok());
  EXPECT_EQ(probe.num_waits, 200);
  EXPECT_EQ(probe.num_overlapped, 199) << "all but the last";
}

TEST_F(EngineTest, AFullQueueRefusesAtOnce) {
  Start({.stall_step = 1, .stall = absl::Seconds(1)}, 3);
  Submit(MakeRequest(1, 3));
  int refused = 0;
  for (CallId call = 2; call < 12; call++) {
    const absl::Status status = engine_->Submit(MakeRequest(call, 3));
    if (!absl::IsResourceExhausted(status)) continue;
    refused++;
    EXPECT_EQ(ErrorCode(status), "queue_full");
    EXPECT_GE(RetryAfterOf(status), absl::Seconds(1));
  }
  EXPECT_GE(refused, 7);
  EXPECT_TRUE(events_.WaitForEnd(1).end.status.ok());
}

TEST_F(EngineTest, AFailingStepFailsItsOwnRequestsWithTheTrueError) {
  Start({.fail_step = 3});
  Submit(MakeRequest(1, 100));
  const auto stream = events_.WaitForEnd(1);
  EXPECT_TRUE(absl::IsInternal(stream.end.status)) << stream.end.status;
  EXPECT_NE(stream.end.status.ToString().find("planted device error"), std::string::npos);
  EXPECT_TRUE(stream.finish.empty());  // never an invented finish reason
  EXPECT_FALSE(engine_->health().live);
  EXPECT_TRUE(absl::IsUnavailable(engine_->Submit(MakeRequest(2, 3))));
}

TEST_F(EngineTest, APlantedLeakIsCounted) {
  Start({}, 64, true);
  Request request = MakeRequest(1, 500);
  request.sampling = std::make_shared<const SamplingParams>();
  Submit(std::move(request));
  events_.Wait(1, [](const Collector::Stream& s) { return s.accepted; });
  engine_->Cancel(1);
  if (absl::IsCancelled(events_.WaitForEnd(1).end.status)) {
    metrics_.orphans.StreamClosed();
    EXPECT_EQ(metrics_.orphans.Orphans(), 1);
  }
}

TEST_F(EngineTest, DestroyingItEndsWhatStillRuns) {
  Start({.stall_step = 2, .stall = absl::Milliseconds(200)});
  for (CallId call = 1; call <= 8; call++) Submit(MakeRequest(call, 100));
  events_.Wait(1, [](const Collector::Stream& s) { return s.accepted; });
  engine_.reset();
  for (CallId call = 1; call <= 8; call++) {
    const auto stream = events_.WaitForEnd(call);
    EXPECT_EQ(stream.num_ends, 1);
    EXPECT_FALSE(stream.after_end);
  }
}

}  // namespace
}  // namespace sluice
