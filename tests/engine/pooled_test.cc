// Calls for vectors through the engine's loop, with a simulated executor.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "executor/faulty_executor.h"
#include "executor/simulated_executor.h"

namespace sluice {
namespace {

class NoTokenizer final : public Tokenizer {
 public:
  [[nodiscard]] std::vector<TokenId> Encode(std::span<const PromptSegment>) const override {
    return {};
  }
  [[nodiscard]] EncodedTexts EncodeTexts(const Text&, const Text*, size_t) const override {
    return {};
  }
  [[nodiscard]] std::string_view TokenBytes(TokenId) const override { return "x"; }
  [[nodiscard]] std::string Decode(std::span<const TokenId>, bool) const override { return {}; }
  [[nodiscard]] bool IsSpecial(TokenId) const override { return false; }
  [[nodiscard]] int32_t vocab_size() const override { return 1000; }
};

class VectorCollector final : public EventQueue {
 public:
  struct Stream {
    int num_accepted = 0, num_ends = 0, num_repeated = 0;
    std::map<int32_t, std::vector<float>> vectors;
    End end;
  };
  void Publish(std::vector<StreamEvent> events) override {
    {
      const MutexLock lock(mutex_);
      for (StreamEvent& event : events) {
        Stream& stream = streams_[event.tag];
        if (std::holds_alternative<Accepted>(event.event)) ++stream.num_accepted;
        if (auto* vector = std::get_if<VectorEvent>(&event.event)) {
          const bool is_new = stream.vectors.emplace(vector->index, vector->values).second;
          stream.num_repeated += is_new && stream.num_ends == 0 ? 0 : 1;
        }
        if (auto* end = std::get_if<End>(&event.event)) {
          ++stream.num_ends;
          stream.end = *end;
        }
      }
    }
    changed_.notify_all();
  }
  Stream WaitForEnd(StreamTag tag) {
    std::unique_lock<Mutex> lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(30),
                                  [&] { return streams_[tag].num_ends > 0; }));
    return streams_[tag];
  }
  [[nodiscard]] bool Ended(StreamTag tag) {
    const MutexLock lock(mutex_);
    return streams_[tag].num_ends > 0;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<StreamTag, Stream> streams_;
};

class PooledEngine : public testing::Test {
 protected:
  void Start(PlantedFault fault = {}, int max_waiting = 8, int64_t max_waiting_tokens = 1000) {
    SimulatedExecutorConfig sim{.max_rows = 4, .num_kv_blocks = 1};
    sim.whole_prompts = true;
    sim.keeps_kv = false;
    sim.vector_dim = 6;
    std::unique_ptr<Executor> executor = std::make_unique<SimulatedExecutor>(sim);
    executor = std::make_unique<FaultyExecutor>(std::move(executor), fault);
    const SchedulerConfig scheduler{.max_rows = 4,
                                    .max_step_tokens = 64,
                                    .kv_block_tokens = 16,
                                    .num_kv_blocks = 1,
                                    .max_model_len = 64,
                                    .max_waiting_sequences = max_waiting,
                                    .max_waiting_tokens = max_waiting_tokens,
                                    .max_steps_in_flight = 2,
                                    .prefix_cache = false,
                                    .whole_prompts = true,
                                    .keeps_kv = false};
    engine_ = std::make_unique<Engine>(EngineOptions{.scheduler = scheduler}, std::move(executor),
                                       tokenizer_, metrics_, clock_);
  }

  Request Make(CallId call, int num_inputs, int tokens = 3) {
    Request request;
    request.call = call;
    request.queue = &collector_;
    request.tag = call;
    request.model = "m";
    request.accepted_at = clock_.Now();
    request.pooled.emplace();
    for (int i = 0; i < num_inputs; ++i)
      request.pooled->inputs.push_back({std::vector<TokenId>(static_cast<size_t>(tokens), 7), 0});
    return request;
  }

  NoTokenizer tokenizer_;
  Metrics metrics_{"m", ""};
  RealClock clock_;
  VectorCollector collector_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(PooledEngine, GivesAVectorAnInputAndOneEnd) {
  Start();
  ASSERT_TRUE(engine_->Submit(Make(1, 3)).ok());
  const auto stream = collector_.WaitForEnd(1);
  EXPECT_TRUE(stream.end.status.ok()) << stream.end.status;
  EXPECT_EQ(stream.num_accepted, 1);
  EXPECT_EQ(stream.num_ends, 1);
  EXPECT_EQ(stream.end.usage.prompt_tokens, 9);
  EXPECT_EQ(stream.end.usage.output_tokens, 0);
  ASSERT_EQ(stream.vectors.size(), 3U);
  for (int32_t i = 0; i < 3; ++i)
    EXPECT_EQ(stream.vectors.at(i), HashedVector(static_cast<SequenceId>(i) + 1, 6));
}

TEST_F(PooledEngine, TakesFarMoreInputsThanMayWait) {
  Start();
  ASSERT_TRUE(engine_->Submit(Make(1, 2048)).ok());
  const auto stream = collector_.WaitForEnd(1);
  EXPECT_TRUE(stream.end.status.ok()) << stream.end.status;
  EXPECT_EQ(stream.vectors.size(), 2048U);
  EXPECT_EQ(stream.num_repeated, 0);
}

TEST_F(PooledEngine, ALargeCallDoesNotHoldUpASmallOne) {
  Start({}, 8, 1'000'000);
  ASSERT_TRUE(engine_->Submit(Make(1, 200'000)).ok());
  ASSERT_TRUE(engine_->Submit(Make(2, 4)).ok());
  EXPECT_TRUE(collector_.WaitForEnd(2).end.status.ok());
  EXPECT_FALSE(collector_.Ended(1));
  engine_->Cancel(1);
  EXPECT_TRUE(absl::IsCancelled(collector_.WaitForEnd(1).end.status));
}

TEST_F(PooledEngine, CountsTheTokensOfInputsThatWaitOutsideTheScheduler) {
  Start({.stall_step = 1}, 8, 1000);
  ASSERT_TRUE(engine_->Submit(Make(1, 400)).ok());  // one call may exceed the limit
  const absl::Status refused = engine_->Submit(Make(2, 1));
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  engine_->Cancel(1);
}

TEST_F(PooledEngine, CancelEndsTheCallAndFreesItsRows) {
  Start({}, 8, 1'000'000);
  ASSERT_TRUE(engine_->Submit(Make(1, 200'000)).ok());
  engine_->Cancel(1);
  const auto stream = collector_.WaitForEnd(1);
  EXPECT_TRUE(absl::IsCancelled(stream.end.status));
  EXPECT_EQ(stream.end.reason, FinishReason::kCancelled);
  ASSERT_TRUE(engine_->Submit(Make(2, 5)).ok());
  EXPECT_TRUE(collector_.WaitForEnd(2).end.status.ok());
  EXPECT_EQ(metrics_.orphans.Orphans(), 0);
}

TEST_F(PooledEngine, APassedDeadlineEndsTheCallWithTheInputsThatNeverRan) {
  Start({}, 8, 1'000'000);
  Request request = Make(1, 200'000);
  request.deadline = clock_.Now() + absl::Milliseconds(5);
  ASSERT_TRUE(engine_->Submit(std::move(request)).ok());
  const auto stream = collector_.WaitForEnd(1);
  EXPECT_TRUE(absl::IsDeadlineExceeded(stream.end.status)) << stream.end.status;
  EXPECT_EQ(stream.end.reason, FinishReason::kDeadline);
  EXPECT_LT(stream.vectors.size(), 200'000U);
}

TEST_F(PooledEngine, AnInputThatCannotFitEndsTheCall) {
  Start();
  Request request = Make(1, 6);
  request.pooled->inputs[4].tokens.resize(65);
  ASSERT_TRUE(engine_->Submit(std::move(request)).ok());
  const auto stream = collector_.WaitForEnd(1);
  EXPECT_TRUE(absl::IsInvalidArgument(stream.end.status)) << stream.end.status;
}

TEST_F(PooledEngine, AFailedStepEndsEveryCallAndSaysWhy) {
  Start({.fail_step = 2});
  ASSERT_TRUE(engine_->Submit(Make(1, 100)).ok());
  const auto stream = collector_.WaitForEnd(1);
  EXPECT_TRUE(absl::IsInternal(stream.end.status)) << stream.end.status;
  EXPECT_EQ(stream.num_ends, 1);
  EXPECT_TRUE(absl::IsUnavailable(engine_->Submit(Make(2, 1))));
}

std::vector<float> Embed(PooledWork work, std::vector<float> raw) {
  work.inputs.resize(1);
  PooledCall call(std::move(work));
  call.Started(1);
  return call.Take(1, std::move(raw)).at(0).values;
}

TEST(PooledCall, CutsThenNormalises) {
  EXPECT_EQ(Embed({}, {3, 4, 12}), (std::vector<float>{3, 4, 12}));
  EXPECT_EQ(Embed({.dimensions = 2, .normalise = true}, {3, 4, 12}),
            (std::vector<float>{0.6F, 0.8F}));
  EXPECT_EQ(Embed({.normalise = true}, {0, 0}), (std::vector<float>{0, 0}));
}

TEST(PooledCall, TurnsAScoreIntoAProbability) {
  EXPECT_EQ(Embed({.sigmoid = true}, {0}), std::vector<float>{0.5F});
  EXPECT_NEAR(Embed({.sigmoid = true}, {2}).at(0), 1 / (1 + std::exp(-2.0)), 1e-7);
}

TEST(PooledCall, TellsACosineOnceBothVectorsAreThere) {
  PooledWork work{.pairs = {{0, 1}, {0, 2}, {0, 0}}, .normalise = true};
  work.inputs.resize(3);
  PooledCall call(std::move(work));
  for (SequenceId id = 10; id < 13; ++id) call.Started(id);
  EXPECT_TRUE(call.Take(12, {0, 2}).empty());
  std::vector<VectorEvent> events = call.Take(10, {3, 0});
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].index, 1);
  EXPECT_EQ(events[0].values, std::vector<float>{0});
  EXPECT_EQ(events[1].index, 2);
  EXPECT_EQ(events[1].values, std::vector<float>{1});
  events = call.Take(11, {1, 1});
  ASSERT_EQ(events.size(), 1U);
  EXPECT_NEAR(events[0].values.at(0), std::sqrt(0.5), 1e-6);
  EXPECT_TRUE(call.done());
}

}  // namespace
}  // namespace sluice
