#include "apps/offline_run.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

#include "base/errors.h"
#include "tests/rpc/fake_service.h"

namespace sluice {
namespace {

using Call = rpc::FakeService::Call;

absl::Status QueueFull() {
  return WithErrorCode(absl::ResourceExhaustedError("the queue is full"), "queue_full");
}

// The answer to `call`: a token event each, so many.
void Answer(const Call& call, int tokens) {
  std::vector<decltype(StreamEvent::event)> events = {Accepted{.prompt_tokens = 7}};
  for (int i = 0; i < tokens; ++i) events.emplace_back(TokenEvent{.index = i, .tokens = {1}});
  events.emplace_back(
      End{.reason = FinishReason::kLength, .usage = {.prompt_tokens = 7, .output_tokens = tokens}});
  call.Publish(std::move(events));
}

class OfflineRunTest : public testing::Test {
 protected:
  // Runs `count` requests of three tokens.
  void Run(int count, OfflineHooks hooks = {}) {
    OfflineRun run(service_, queue_, std::move(hooks));
    int made = 0;
    run.Run(
        [&]() -> std::optional<GenerateRequest> {
          if (made++ == count) return std::nullopt;
          GenerateRequest request;
          request.sampling.max_tokens = 3;
          request.sampling.ignore_eos = true;
          return request;
        },
        measured_);
    refusals_ = run.num_refusals();
    interrupted_ = run.interrupted();
  }

  BlockingQueue queue_;
  rpc::FakeService service_;
  load::Measurement measured_{0, 0, INT64_MAX, {}};
  int64_t refusals_ = 0;
  bool interrupted_ = false;
};

TEST_F(OfflineRunTest, EveryRequestIsHandedOverOnceAndItsTokensAreCounted) {
  service_.script = [](const Call& call) { Answer(call, 3); };
  Run(5);
  EXPECT_EQ(service_.calls().size(), 5U);
  EXPECT_EQ(measured_.completed, 5);
  EXPECT_EQ(measured_.prompt_tokens, 35);
  EXPECT_EQ(measured_.output_tokens, 15);
  EXPECT_EQ(measured_.ttft.Count(), 5);
  EXPECT_EQ(measured_.itl.Count(), 10);
  EXPECT_EQ(measured_.e2e.Count(), 5);
}

// The first call is accepted and stays; everybody else is refused until the fourth attempt, which
// ends the first.
TEST_F(OfflineRunTest, WhatAFullQueueRefusedIsMadeAgainAndCountsOnce) {
  std::optional<Call> first;
  int attempts = 0;
  service_.script = [&](const Call& call) {
    if (!first) {
      first = call;
      return call.Publish({Accepted{.prompt_tokens = 7}});
    }
    if (++attempts < 4) return call.EndWith(QueueFull());
    if (attempts == 4) Answer(*first, 3);
    Answer(call, 3);
  };
  Run(3);
  EXPECT_EQ(measured_.completed, 3);
  EXPECT_EQ(measured_.all_started, 3);
  EXPECT_EQ(refusals_, 3);
  EXPECT_TRUE(measured_.errors.empty());
}

TEST_F(OfflineRunTest, AnIdleServiceThatRefusesEverythingIsGivenUp) {
  service_.script = [](const Call& call) { call.EndWith(QueueFull()); };
  Run(3, {.patience = absl::Milliseconds(60)});
  EXPECT_EQ(measured_.failed, 3);
  EXPECT_EQ(measured_.errors["queue_full"].count, 3);
  EXPECT_GT(refusals_, 0);
}

TEST_F(OfflineRunTest, AFailureIsAnErrorByKind) {
  service_.script = [n = 0](const Call& call) mutable {
    if (n++ == 0) return call.EndWith(FieldError("prompt", "too long", "context_length_exceeded"));
    call.EndWith(absl::InternalError("the device failed"));
  };
  Run(2);
  EXPECT_EQ(measured_.failed, 2);
  EXPECT_EQ(measured_.errors["context_length_exceeded"].example, "too long");
  EXPECT_EQ(measured_.errors["internal"].count, 1);
}

TEST_F(OfflineRunTest, AnAnswerOfAnotherLengthIsAnError) {
  service_.script = [](const Call& call) { Answer(call, 2); };
  Run(1);
  EXPECT_EQ(measured_.errors["wrong_length"].count, 1);
}

TEST_F(OfflineRunTest, AnInterruptionCancelsWhatRunsAndForgetsWhatWaits) {
  int accepted = 0;
  service_.script = [&](const Call& call) {
    if (accepted == 2) return call.EndWith(QueueFull());
    ++accepted;
    call.Publish({Accepted{.prompt_tokens = 7}});
  };
  Run(100, {.stopped = [&] { return service_.calls().size() >= 5; }});
  EXPECT_TRUE(interrupted_);
  EXPECT_EQ(measured_.completed, 0);
  EXPECT_EQ(measured_.errors["interrupted"].count, measured_.all_started);
  EXPECT_EQ(measured_.errors.size(), 1U);
  EXPECT_LT(measured_.all_started, 6);
}

}  // namespace
}  // namespace sluice
