// Log against the C library's in long double, whose errors are 2^-11 of a unit of double.
#include "kernels/log.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>

namespace sluice {
namespace {

// In units in the last place of the logarithm.
double ErrorOf(double x) {
  const long double wanted = std::log(static_cast<long double>(x));
  const double got = Log(x);
  if (wanted == 0) return std::fabs(got);
  int exponent = 0;
  (void)std::frexp(wanted, &exponent);
  return static_cast<double>(std::fabs(got - wanted) / std::ldexp(1.0L, exponent - 53));
}

TEST(Log, OfEveryMantissaOfF32AroundOneIsWithinAUnitInTheLastPlace) {
  double worst = 0;
  for (uint32_t m = 0; m < 1U << 24; ++m) {  // [0.5, 2)
    const double x = m < 1U << 23 ? 0.5 + m * 0x1p-24 : 1 + (m - (1U << 23)) * 0x1p-23;
    worst = std::fmax(worst, ErrorOf(x));
  }
  EXPECT_LT(worst, 1);
  EXPECT_EQ(Log(1), 0);
}

TEST(Log, OfEveryExponentOfF32IsWithinAUnitInTheLastPlace) {
  double worst = 0;
  for (int exponent = -126; exponent < 128; ++exponent) {
    for (uint32_t m = 0; m < 1U << 23; m += 1021)
      worst = std::fmax(worst, ErrorOf(std::ldexp(1 + m * 0x1p-23, exponent)));
  }
  EXPECT_LT(worst, 1);
}

TEST(Log, OfWholeDoublesIsWithinAUnitInTheLastPlace) {
  std::mt19937_64 random(7);
  double worst = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    worst = std::fmax(worst, ErrorOf(0.5 + static_cast<double>(random() >> 11) * 0x1.8p-53));
    worst = std::fmax(worst, ErrorOf(static_cast<double>(random() >> (random() % 60)) + 1));
  }
  EXPECT_LT(worst, 1);
}

}  // namespace
}  // namespace sluice
