#include "kernels/philox.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace sluice {
namespace {

// The three vectors for philox4x32 with 10 rounds in kat_vectors of the authors' library,
// Random123.
TEST(Philox, MatchesThePublishedKnownAnswers) {
  struct Answer {
    std::array<uint32_t, 4> counter;
    std::array<uint32_t, 2> key;
    std::array<uint32_t, 4> expected;
  };
  constexpr Answer kAnswers[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Answer& answer : kAnswers) {
    const auto& c = answer.counter;
    const PhiloxBlock block = Philox4x32({{c[0], c[1], c[2], c[3]}}, answer.key[0], answer.key[1]);
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(block.word[i], answer.expected[i]);
  }
}

TEST(Philox, DrawsAreUniformInTheUnitIntervalAndDifferByEachPartOfTheKey) {
  std::array<int, 10> counts{};
  constexpr uint32_t kDraws = 100'000;
  for (uint32_t i = 0; i < kDraws; ++i) {
    const double draw = SampleDraw(7, 0, i);
    ASSERT_GE(draw, 0);
    ASSERT_LT(draw, 1);
    ++counts[static_cast<size_t>(draw * 10)];
  }
  double chi_square = 0;
  for (const int count : counts)
    chi_square += (count - kDraws / 10.0) * (count - kDraws / 10.0) / (kDraws / 10.0);
  EXPECT_LT(chi_square, 27.9);  // 9 degrees of freedom, p = 0.001
  const double draw = SampleDraw(7, 0, 0);
  EXPECT_NE(draw, SampleDraw(8, 0, 0));
  EXPECT_NE(draw, SampleDraw(7 + (uint64_t{1} << 32), 0, 0));
  EXPECT_NE(draw, SampleDraw(7, 1, 0));
  EXPECT_NE(draw, SampleDraw(7, 0, 1));
}

}  // namespace
}  // namespace sluice
