#include "bench/serve/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "bench/serve/random.h"

namespace sluice::load {
namespace {

// The nearest-rank quantile of the values themselves.
int64_t Exact(std::vector<int64_t> values, double q) {
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(q * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

void ExpectQuantilesOf(const std::function<double(Random&)>& draw) {
  Random random(7);
  Histogram histogram;
  std::vector<int64_t> values;
  double sum = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto value = static_cast<int64_t>(draw(random));
    values.push_back(value);
    sum += static_cast<double>(value);
    histogram.Record(value);
  }
  for (const double q : {0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto exact = static_cast<double>(Exact(values, q));
    EXPECT_NEAR(static_cast<double>(histogram.Quantile(q)), exact, exact / 250) << "q " << q;
  }
  EXPECT_DOUBLE_EQ(histogram.Mean(), sum / 20000);
  EXPECT_EQ(histogram.Min(), Exact(values, 0));
  EXPECT_EQ(histogram.Max(), Exact(values, 1));
}

TEST(Histogram, QuantilesAreWithinFourTenthsOfAPercentOfTheExactOnes) {
  ExpectQuantilesOf([](Random& r) { return 1e6 * r.Exponential(); });
  ExpectQuantilesOf([](Random& r) { return 1e3 + 1e9 * r.Uniform(); });
  ExpectQuantilesOf([](Random& r) { return std::exp(15 + 3 * r.Normal()); });
  ExpectQuantilesOf([](Random& r) { return r.Uniform() < 0.99 ? 2e6 : 7e11; });
  ExpectQuantilesOf([](Random&) { return 12345678.0; });
}

TEST(Histogram, SmallValuesAreExact) {
  for (int64_t value = 0; value < 256; ++value) {
    Histogram histogram;
    histogram.Record(value);
    EXPECT_EQ(histogram.Quantile(0.5), value);
    ASSERT_EQ(histogram.Buckets().size(), 1U);
    EXPECT_EQ(histogram.Buckets()[0].begin, value);
    EXPECT_EQ(histogram.Buckets()[0].end, value + 1);
  }
}

TEST(Histogram, BucketsTouchAndHoldWhatWasRecorded) {
  for (int bit = 8; bit < 44; ++bit) {
    for (const int64_t offset : {-1, 0, 1}) {
      const int64_t value = (int64_t{1} << bit) + offset;
      Histogram histogram;
      histogram.Record(value);
      const auto bucket = histogram.Buckets().at(0);
      EXPECT_LE(bucket.begin, value);
      EXPECT_LT(value, bucket.end);
      histogram.Record(bucket.end);
      EXPECT_EQ(histogram.Buckets().at(1).begin, bucket.end);
    }
  }
}

TEST(Histogram, WhatIsOutOfRangeIsKeptAtTheEnds) {
  Histogram histogram;
  histogram.Record(-5);
  histogram.Record(INT64_MAX);
  EXPECT_EQ(histogram.Min(), 0);
  EXPECT_EQ(histogram.Max(), (int64_t{1} << 44) - 1);
  EXPECT_EQ(histogram.Count(), 2);
}

TEST(Histogram, MergingEqualsRecordingIntoOne) {
  Random random(3);
  Histogram a, b, whole;
  for (int i = 0; i < 1000; ++i) {
    const auto value = static_cast<int64_t>(1e7 * random.Exponential());
    (i % 3 == 0 ? a : b).Record(value);
    whole.Record(value);
  }
  a.Merge(b);
  a.Merge(Histogram());
  EXPECT_EQ(a.Count(), whole.Count());
  EXPECT_EQ(a.Min(), whole.Min());
  EXPECT_EQ(a.Max(), whole.Max());
  for (const double q : {0.01, 0.5, 0.99}) EXPECT_EQ(a.Quantile(q), whole.Quantile(q));
}

TEST(Histogram, AnEmptyOneAnswersZero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.Quantile(0.99), 0);
  EXPECT_EQ(histogram.Mean(), 0);
  EXPECT_EQ(histogram.Min(), 0);
  EXPECT_TRUE(histogram.Buckets().empty());
}

}  // namespace
}  // namespace sluice::load
