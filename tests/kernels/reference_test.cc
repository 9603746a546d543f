// The oracle's own number formats against the standards' examples, and a quantised block written
// out by hand.
#include "tests/kernels/reference.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>

namespace sluice::reference {
namespace {

TEST(Reference, HalfConversionsAreInverseOnEveryHalf) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = HalfToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(value))));
    } else {
      ASSERT_EQ(FloatToHalf(value), half);
    }
  }
}

TEST(Reference, HalfRoundsToNearestEven) {
  EXPECT_EQ(HalfToFloat(0x3C00), 1.0F);
  EXPECT_EQ(HalfToFloat(0x7BFF), 65504.0F);
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24F);
  EXPECT_EQ(FloatToHalf(1 + 0x1p-11F), 0x3C00);  // halfway, to even
  EXPECT_EQ(FloatToHalf(1 + 0x3p-11F), 0x3C02);
  EXPECT_EQ(FloatToHalf(65519.0F), 0x7BFF);
  EXPECT_EQ(FloatToHalf(65520.0F), 0x7C00);
  EXPECT_EQ(FloatToHalf(0x1p-25F), 0x0000);
  EXPECT_EQ(FloatToHalf(-0x1.8p-24F), 0x8002);
}

TEST(Reference, Q4_1KeepsLowNibblesFirst) {
  std::array<uint8_t, 20> block{};
  block[1] = 0x40;  // d = 2
  block[3] = 0x3C;  // m = 1
  block[4] = 0x93;  // element 0 = 3, element 16 = 9
  const WeightView view{DType::kQ4_1, 1, 32, block.data()};
  const std::vector<double> values = Dequantize(view);
  EXPECT_EQ(values[0], 7);
  EXPECT_EQ(values[16], 19);
  EXPECT_EQ(values[1], 1);
}

}  // namespace
}  // namespace sluice::reference
