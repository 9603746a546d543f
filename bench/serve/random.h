// Random numbers that are the same on every machine and standard library: a seed names a workload.
#pragma once

#include <cmath>
#include <cstdint>

namespace sluice::load {

// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  // In (0, 1).
  double Uniform() { return (static_cast<double>(Next() >> 11) + 0.5) * 0x1p-53; }
  // In [low, high]; the modulo's bias is below 2^-32 for the ranges used here.
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Next() % static_cast<uint64_t>(high - low + 1));
  }
  double Exponential() { return -std::log(Uniform()); }  // mean 1
  double Normal() {                                      // Box-Muller
    const double radius = std::sqrt(-2 * std::log(Uniform()));
    return radius * std::cos(2 * 3.14159265358979323846 * Uniform());
  }
  // Shape k > 0, mean k. Source: Marsaglia and Tsang, A simple method for generating gamma
  // variables, 2000; shapes below 1 by the power of a uniform.
  double Gamma(double shape) {
    if (shape < 1) return Gamma(shape + 1) * std::pow(Uniform(), 1 / shape);
    const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
    for (;;) {
      const double x = Normal();
      const double t = 1 + c * x;
      if (t <= 0) continue;
      const double v = t * t * t;
      if (std::log(Uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
    }
  }

 private:
  uint64_t state_;
};

// The sampling seed of a run's request `id`. Below 2^53: every JSON reader has it exactly.
inline uint64_t RequestSeed(uint64_t run_seed, int64_t id) {
  return (run_seed * 1'000'003 + static_cast<uint64_t>(id)) >> 1 & ((uint64_t{1} << 52) - 1);
}

}  // namespace sluice::load
