#include "model/quantise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace sluice {
namespace {

using ::testing::HasSubstr;

std::string Golden() {
  const char* root = std::getenv("SLUICE_SOURCE_DIR");
  std::ifstream in(std::string(root == nullptr ? "." : root) + "/tests/golden/quantise.bin",
                   std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

constexpr DType kTypes[] = {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1};

TEST(Quantise, GivesTheBytesOfTheFormatsOwnPackage) {
  const std::string golden = Golden();
  uint32_t blocks = 0;
  ASSERT_GE(golden.size(), sizeof(blocks));
  std::memcpy(&blocks, golden.data(), sizeof(blocks));
  const char* floats = golden.data() + sizeof(blocks);
  const char* expected = floats + size_t{blocks} * 128;
  for (const DType type : kTypes) {
    const auto block_bytes = static_cast<size_t>(GetDTypeInfo(type).block_bytes);
    std::vector<uint8_t> out(blocks * block_bytes);
    ASSERT_TRUE(QuantiseRows({DType::kF32, blocks, 32, floats}, type, 2, out.data()).ok());
    for (size_t b = 0; b < blocks; ++b) {
      ASSERT_EQ(std::memcmp(out.data() + b * block_bytes, expected + b * block_bytes, block_bytes),
                0)
          << GetDTypeInfo(type).name << " block " << b;
    }
    expected += blocks * block_bytes;
  }
  EXPECT_EQ(expected, golden.data() + golden.size());
}

TEST(Quantise, HalvesAreRoundedAsTheirFloats) {
  std::mt19937 random(5);
  std::vector<uint16_t> bf16(64 * 3), f16(64 * 3);
  std::vector<float> of_bf16(bf16.size()), of_f16(bf16.size());
  for (size_t i = 0; i < bf16.size(); ++i) {
    // An exponent near 0 in both formats; the sign and the fraction are random.
    const uint32_t fraction = random() & 0x7fU, sign = random() & 1U;
    bf16[i] = static_cast<uint16_t>(sign << 15 | 0x3f80U | fraction);
    f16[i] = static_cast<uint16_t>(sign << 15 | 0x3c00U | fraction << 3);
    const float value = (sign != 0 ? -1.0F : 1.0F) * (1 + static_cast<float>(fraction) / 128);
    of_bf16[i] = of_f16[i] = value;
  }
  for (const DType type : kTypes) {
    const auto size = static_cast<size_t>(6 * GetDTypeInfo(type).block_bytes);
    std::vector<uint8_t> a(size), b(size), c(size);
    ASSERT_TRUE(QuantiseRows({DType::kBF16, 3, 64, bf16.data()}, type, 1, a.data()).ok());
    ASSERT_TRUE(QuantiseRows({DType::kF16, 3, 64, f16.data()}, type, 1, b.data()).ok());
    ASSERT_TRUE(QuantiseRows({DType::kF32, 3, 64, of_f16.data()}, type, 1, c.data()).ok());
    EXPECT_EQ(a, c);
    EXPECT_EQ(b, c);
  }
}

TEST(Quantise, BytesDoNotDependOnThreads) {
  std::mt19937 random(6);
  std::vector<float> x(300 * 96);
  for (float& v : x) v = static_cast<float>(random()) / 4e9F - 0.5F;
  for (const DType type : kTypes) {
    const auto size = static_cast<size_t>(300 * 3 * GetDTypeInfo(type).block_bytes);
    std::vector<uint8_t> one(size), many(size);
    ASSERT_TRUE(QuantiseRows({DType::kF32, 300, 96, x.data()}, type, 1, one.data()).ok());
    ASSERT_TRUE(QuantiseRows({DType::kF32, 300, 96, x.data()}, type, 5, many.data()).ok());
    EXPECT_EQ(one, many);
  }
}

TEST(Quantise, RefusesWhatTheTypeCannotHold) {
  for (const float bad : {std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(), 1e30F, -1e30F}) {
    for (const DType type : kTypes) {
      std::vector<float> x(64 * 40, 0.5F);
      x[64 * 37 + 33] = bad;
      x[64 * 39] = bad;
      std::vector<uint8_t> out(static_cast<size_t>(80 * GetDTypeInfo(type).block_bytes));
      const absl::Status status =
          QuantiseRows({DType::kF32, 40, 64, x.data()}, type, 3, out.data());
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr("row 37 holds a number that is not finite or too large for Q"));
    }
  }
}

TEST(Quantise, KnowsItsTypesByName) {
  EXPECT_EQ(ParseQuantisedType("q8_0"), DType::kQ8_0);
  EXPECT_EQ(ParseQuantisedType("q4_0"), DType::kQ4_0);
  EXPECT_EQ(ParseQuantisedType("q4_1"), DType::kQ4_1);
  EXPECT_EQ(ParseQuantisedType("Q8_0"), std::nullopt);
  EXPECT_EQ(ParseQuantisedType(""), std::nullopt);
}

}  // namespace
}  // namespace sluice
