// A histogram of latencies whose buckets grow with the value: any quantile to 0.4 %, from 1 ns to
// hours.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice::load {

// Log-linear: each power of two is cut into 128 equal buckets, and a quantile is answered by its
// bucket's middle, so it is off by 1/256 at most. Values below 256 are exact. Recording is O(1) and
// allocates nothing after the first value. Not thread-safe.
class Histogram {
 public:
  // Negative values count as 0; values from 2^44 (4.9 h in ns) on as that.
  void Record(int64_t value);
  void Merge(const Histogram& other);

  [[nodiscard]] int64_t Count() const { return count_; }
  [[nodiscard]] int64_t Min() const { return count_ == 0 ? 0 : min_; }  // exact
  [[nodiscard]] int64_t Max() const { return max_; }                    // exact
  [[nodiscard]] double Mean() const;                                    // exact
  // The smallest recorded value that at least `q` of all values do not exceed (nearest rank), to
  // 0.4 %; q in [0, 1]. 0 if nothing was recorded.
  [[nodiscard]] int64_t Quantile(double q) const;

  struct Bucket {
    int64_t begin, end;  // [begin, end)
    int64_t count;
  };
  // Those that hold something, ascending.
  [[nodiscard]] std::vector<Bucket> Buckets() const;

 private:
  std::vector<int64_t> counts_;  // empty until the first value
  int64_t count_ = 0;
  int64_t min_ = INT64_MAX;
  int64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace sluice::load
