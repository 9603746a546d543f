#include "bench/serve/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace sluice::load {
namespace {

constexpr int kSubBits = 7;  // 128 buckets a power of two
constexpr int64_t kSub = int64_t{1} << kSubBits;
constexpr int kMaxBits = 44;
constexpr int64_t kMaxValue = (int64_t{1} << kMaxBits) - 1;

// Values below 2 * kSub have a bucket each; above, the leading kSubBits + 1 bits name the bucket.
constexpr int64_t IndexOf(int64_t value) {
  if (value < 2 * kSub) return value;
  const int shift = 63 - std::countl_zero(static_cast<uint64_t>(value)) - kSubBits;
  return (int64_t{shift} << kSubBits) + (value >> shift);
}
constexpr int64_t BeginOf(int64_t index) {
  if (index < 2 * kSub) return index;
  const int64_t shift = (index >> kSubBits) - 1;
  return ((index & (kSub - 1)) + kSub) << shift;
}
constexpr int64_t kNumBuckets = IndexOf(kMaxValue) + 1;

}  // namespace

void Histogram::Record(int64_t value) {
  value = std::clamp<int64_t>(value, 0, kMaxValue);
  if (counts_.empty()) counts_.resize(kNumBuckets);
  ++counts_[static_cast<size_t>(IndexOf(value))];
  ++count_;
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
  sum_ += static_cast<double>(value);
}

void Histogram::Merge(const Histogram& other) {
  if (other.count_ == 0) return;
  if (counts_.empty()) counts_.resize(kNumBuckets);
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

double Histogram::Mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }

int64_t Histogram::Quantile(double q) const {
  if (count_ == 0) return 0;
  const int64_t rank = std::clamp<int64_t>(
      static_cast<int64_t>(std::ceil(q * static_cast<double>(count_))), 1, count_);
  int64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen < rank) continue;
    const int64_t begin = BeginOf(static_cast<int64_t>(i));
    const int64_t end = BeginOf(static_cast<int64_t>(i) + 1);
    return std::clamp((begin + end - 1) / 2, Min(), max_);
  }
  return max_;
}

std::vector<Histogram::Bucket> Histogram::Buckets() const {
  std::vector<Bucket> buckets;
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] == 0) continue;
    const auto index = static_cast<int64_t>(i);
    buckets.push_back({BeginOf(index), BeginOf(index + 1), counts_[i]});
  }
  return buckets;
}

}  // namespace sluice::load
