// How long steps take by their number of tokens, as measured lately. A plain value.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace sluice {

class StepDurations {
 public:
  void Observe(int64_t tokens, absl::Duration duration) {
    Bucket& bucket = buckets_[IndexOf(tokens)];
    const bool first = bucket.worst == absl::ZeroDuration();
    bucket.mean = first ? duration : bucket.mean + (duration - bucket.mean) / 8;
    bucket.worst = std::max(duration, bucket.worst - bucket.worst / 16);
  }

  // About what such a step takes; nothing: none of about that size was measured.
  [[nodiscard]] std::optional<absl::Duration> Typical(int64_t tokens) const {
    const Bucket& bucket = buckets_[IndexOf(tokens)];
    if (bucket.worst == absl::ZeroDuration()) return std::nullopt;
    return bucket.mean;
  }

  // What such a step takes at worst. For a size that was not measured: a smaller one's time for
  // each of its tokens, which is more than a larger step needs for one. Nothing: no step was
  // measured.
  [[nodiscard]] std::optional<absl::Duration> Worst(int64_t tokens) const {
    const size_t index = IndexOf(tokens);
    for (size_t i = index;; --i) {
      if (buckets_[i].worst > absl::ZeroDuration())
        return buckets_[i].worst * (int64_t{1} << (index - i));
      if (i == 0) break;
    }
    for (size_t i = index; i < buckets_.size(); ++i) {
      if (buckets_[i].worst > absl::ZeroDuration()) return buckets_[i].worst;
    }
    return std::nullopt;
  }

 private:
  struct Bucket {  // of the sizes [2^i, 2^(i+1))
    absl::Duration mean, worst;
  };
  static size_t IndexOf(int64_t tokens) {
    return std::bit_width(static_cast<uint64_t>(std::clamp<int64_t>(tokens, 1, 1 << 20))) - 1;
  }

  std::array<Bucket, 21> buckets_;
};

}  // namespace sluice
