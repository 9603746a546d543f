#include "bench/serve/arrivals.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace sluice::load {
namespace {

struct Gaps {
  double mean = 0, cv = 0;
};

Gaps GapsOf(const ArrivalOptions& options, int count) {
  auto arrivals = Arrivals::Create(options);
  EXPECT_TRUE(arrivals.ok());
  double last = 0, sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) {
    const double at = static_cast<double>(*arrivals->Next()) / 1e9;
    EXPECT_GE(at, last);
    sum += at - last;
    squares += (at - last) * (at - last);
    last = at;
  }
  const double mean = sum / count;
  return {mean, std::sqrt(squares / count - mean * mean) / mean};
}

TEST(Arrivals, PoissonGapsHaveTheRateAndAVariationOfOne) {
  const Gaps gaps = GapsOf({.kind = ArrivalKind::kPoisson, .rate = 50, .seed = 1}, 100000);
  EXPECT_NEAR(gaps.mean, 0.02, 0.0002);
  EXPECT_NEAR(gaps.cv, 1, 0.02);
}

TEST(Arrivals, GammaGapsHaveTheRateAndTheVariationAskedFor) {
  for (const double cv : {0.3, 1.0, 2.5}) {
    const Gaps gaps =
        GapsOf({.kind = ArrivalKind::kGamma, .rate = 20, .cv = cv, .seed = 2}, 200000);
    EXPECT_NEAR(gaps.mean, 0.05, 0.0015) << cv;
    EXPECT_NEAR(gaps.cv, cv, cv * 0.04) << cv;
  }
}

TEST(Arrivals, ConstantOnesAreEquallyFarApart) {
  auto arrivals = Arrivals::Create({.kind = ArrivalKind::kConstant, .rate = 4});
  EXPECT_EQ(*arrivals->Next(), 250'000'000);
  EXPECT_EQ(*arrivals->Next(), 500'000'000);
}

// Both ways: up and down.
TEST(Arrivals, ARampHasTheCountsOfItsRateInEachPart) {
  for (const auto& [from, to] : {std::pair{100.0, 300.0}, {300.0, 100.0}}) {
    auto arrivals = Arrivals::Create(
        {.kind = ArrivalKind::kRamp, .rate = from, .ramp_to = to, .ramp_seconds = 100, .seed = 3});
    std::vector<int> counts(15);
    for (;;) {
      const auto ten_seconds = static_cast<size_t>(static_cast<double>(*arrivals->Next()) / 1e10);
      if (ten_seconds >= counts.size()) break;
      ++counts[ten_seconds];
    }
    for (size_t i = 0; i < counts.size(); ++i) {
      const double middle = std::min(1.0, (static_cast<double>(i) + 0.5) / 10);
      const double expected = 10 * (i < 10 ? from + (to - from) * middle : to);
      EXPECT_NEAR(counts[i], expected, 4.5 * std::sqrt(expected)) << i;
    }
  }
}

TEST(Arrivals, TheSameSeedGivesTheSameTimes) {
  const ArrivalOptions options{.kind = ArrivalKind::kGamma, .rate = 9, .seed = 11};
  auto a = Arrivals::Create(options), b = Arrivals::Create(options);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(*a->Next(), *b->Next());
}

TEST(Arrivals, ATraceEndsAndCanBeStretched) {
  auto arrivals = Arrivals::Create({.kind = ArrivalKind::kTrace,
                                    .trace = {{.at_s = 1, .prompt_tokens = 7}, {.at_s = 2}},
                                    .time_scale = 0.5});
  EXPECT_EQ(*arrivals->Next(), 500'000'000);
  EXPECT_EQ(arrivals->Last()->prompt_tokens, 7);
  EXPECT_EQ(*arrivals->Next(), 1'000'000'000);
  EXPECT_FALSE(arrivals->Next().has_value());
}

TEST(Arrivals, NonsenseIsRefused) {
  EXPECT_FALSE(Arrivals::Create({.kind = ArrivalKind::kPoisson, .rate = 0}).ok());
  EXPECT_FALSE(Arrivals::Create({.kind = ArrivalKind::kGamma, .rate = 1, .cv = -1}).ok());
  EXPECT_FALSE(Arrivals::Create({.kind = ArrivalKind::kRamp, .rate = 1, .ramp_to = 0}).ok());
  EXPECT_FALSE(Arrivals::Create({.kind = ArrivalKind::kTrace}).ok());
}

class TraceFile : public testing::Test {
 protected:
  absl::StatusOr<std::vector<TraceArrival>> Read(const std::string& text) {
    const std::string path = testing::TempDir() + "trace-" + std::to_string(getpid()) + ".jsonl";
    std::ofstream(path) << text;
    auto trace = ReadTrace(path);
    std::remove(path.c_str());
    return trace;
  }
};

TEST_F(TraceFile, BothFormsAreRead) {
  const auto trace = Read(
      "{\"at_s\": 0.5, \"prompt_tokens\": 3, \"output_tokens\": 4}\n\n"
      "{\"timestamp\": 1500, \"input_length\": 5, \"output_length\": 6, \"hash_ids\": [1]}\n");
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->size(), 2U);
  EXPECT_EQ(trace->at(0).output_tokens, 4);
  EXPECT_DOUBLE_EQ(trace->at(1).at_s, 1.5);
  EXPECT_EQ(trace->at(1).prompt_tokens, 5);
}

TEST_F(TraceFile, WhatIsWrongIsRefusedByItsLine) {
  for (const char* bad : {"{\"at_s\": 1}\n{\"at_s\": 0.5}", "{\"at_s\": 1}\nnothing",
                          "{\"at_s\": 1}\n{\"at_s\": -3}", "{\"at_s\": 1}\n{\"at_s\": 1e300}",
                          "{\"at_s\": 1}\n{\"at_s\": 2, \"output_tokens\": 1e300}"}) {
    const auto trace = Read(bad);
    ASSERT_FALSE(trace.ok()) << bad;
    EXPECT_NE(trace.status().message().find(":2:"), std::string::npos) << trace.status();
  }
  EXPECT_FALSE(ReadTrace("/nowhere/at/all").ok());
}

}  // namespace
}  // namespace sluice::load
