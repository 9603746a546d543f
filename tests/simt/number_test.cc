// The numbers of kernels/cuda/number.h against the toolkit's own functions for the host, and fused
// multiply-adds, for which it has none, against whole numbers. Which NaN comes out is not compared.
#include "kernels/cuda/number.h"

#include <gtest/gtest.h>

#if __has_include(<cuda_fp8.h>)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cuda/matrix.h"

namespace sluice::simt {
namespace {

constexpr uint32_t kHalves = 1U << 16;
constexpr int kRandom = 3'000'000;

uint16_t Word(uint32_t bits) { return static_cast<uint16_t>(bits); }
__half Half(uint32_t bits) { return __half_raw{Word(bits)}; }
uint16_t BitsOfHalf(__half value) { return static_cast<__half_raw>(value).x; }
// One wrong number is enough to read about.
bool Failed() { return testing::Test::HasFatalFailure(); }
bool IsNan(uint32_t half) { return (half & 0x7fff) > 0x7c00; }

void ExpectSameFloat(float got, float wanted, uint32_t of) {
  if (std::isnan(wanted)) {
    ASSERT_TRUE(std::isnan(got)) << std::hex << of;
  } else {
    ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(wanted)) << std::hex << of;
  }
}
void ExpectSameHalf(uint32_t got, uint32_t wanted, uint32_t a, uint32_t b = 0, uint32_t c = 0) {
  if (got != wanted && IsNan(got) && IsNan(wanted)) return;
  ASSERT_EQ(got, wanted) << std::hex << "of " << a << ", " << b << ", " << c;
}

TEST(Number, EveryNarrowNumberWidensAsTheToolkitsDoes) {
  for (uint32_t i = 0; i < kHalves && !Failed(); ++i) {
    ExpectSameFloat(cuda::HalfToFloat(Word(i)), __half2float(Half(i)), i);
    ExpectSameFloat(cuda::Bf16ToFloat(Word(i)), __bfloat162float(__nv_bfloat16_raw{Word(i)}), i);
    ExpectSameFloat(cuda::LowHalf(i | 0x12340000), __half2float(Half(i)), i);
    ExpectSameFloat(cuda::HighHalf(i << 16 | 0x1234), __half2float(Half(i)), i);
  }
}

TEST(Number, Bf16RoundsAndNarrowsAsTheToolkitsDoes) {
  std::mt19937 random(7);
  for (int i = 0; i < kRandom && !Failed(); ++i) {
    const auto bits = static_cast<uint32_t>(random());
    const auto x = std::bit_cast<float>(bits);
    const uint16_t wanted = static_cast<__nv_bfloat16_raw>(__float2bfloat16(x)).x;
    if (std::isnan(x)) {
      ASSERT_GT(cuda::FloatToBf16(x) & 0x7fff, 0x7f80) << std::hex << bits;
    } else {
      ASSERT_EQ(cuda::FloatToBf16(x), wanted) << std::hex << bits;
    }
  }
  for (uint32_t i = 0; i < kHalves && !Failed(); ++i) {
    const float x = __bfloat162float(__nv_bfloat16_raw{Word(i)});
    const uint32_t pair = cuda::Bf16ToHalves(i | 0x3f800000);
    ExpectSameHalf(pair & 0xffff, BitsOfHalf(__float2half(x)), i);
    ASSERT_EQ(pair >> 16, 0x3c00U);
    ExpectSameHalf(cuda::Bf16ToHalves(i << 16 | 0x3f80) >> 16, BitsOfHalf(__float2half(x)), i);
  }
}

// A product with one element of A and 1 is that element.
TEST(Number, MatricesOfE4m3HoldTheToolkitsNumbers) {
  for (uint32_t i = 0; i < 256; ++i) {
    float first = 0;
    (void)RunGrid({.kernel = "decode", .block = {32}}, [&] {
      const bool mine = cuda::ThreadIndex().x == 0;
      const uint32_t a[4] = {mine ? i : 0}, b[2] = {mine ? 0x38U : 0};
      float c[4] = {};
      cuda::MultiplyE4m3(a, b, c);
      if (mine) first = c[0];
    });
    const auto wanted = __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(i), __NV_E4M3);
    if (__half2float(wanted) == 0) {
      EXPECT_EQ(first, 0);  // of any sign: 0 is added
    } else {
      ExpectSameFloat(first, __half2float(wanted), i);
    }
  }
}

// Each half, what lies in the middle of it and the next, their neighbours, and any bits.
std::vector<float> FloatsToNarrow() {
  std::vector<float> floats;
  const auto add = [&floats](float x) {
    const float up = std::nextafter(x, std::numeric_limits<float>::infinity());
    const float down = std::nextafter(x, -std::numeric_limits<float>::infinity());
    floats.insert(floats.end(), {x, up, down, -x, -up, -down});
  };
  for (uint32_t i = 0; i < 0x7c00; ++i) {
    const float x = __half2float(Half(i));
    const float next = i == 0x7bff ? 65536.0F : __half2float(Half(i + 1));
    add(x);
    add((x + next) / 2);
  }
  for (uint32_t exponent = 0; exponent < 256; ++exponent) add(std::bit_cast<float>(exponent << 23));
  std::mt19937 random(1);
  for (int i = 0; i < kRandom; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    floats.push_back(std::bit_cast<float>(bits));
    floats.push_back(std::bit_cast<float>(bits % (48U << 23) + (96U << 23)));  // in f16's range
  }
  return floats;
}

TEST(Number, FloatsNarrowAsTheToolkitsDo) {
  for (const float x : FloatsToNarrow()) {
    if (Failed()) return;
    const uint16_t wanted = BitsOfHalf(__float2half_rn(x));
    ExpectSameHalf(cuda::FloatToHalf(x), wanted, std::bit_cast<uint32_t>(x));
    const uint32_t pair = cuda::PackHalves(x, 1.0F);
    ASSERT_EQ(pair >> 16, 0x3c00U);
    ExpectSameHalf(pair & 0xffff, wanted, std::bit_cast<uint32_t>(x));
  }
}

TEST(Number, FloatsNarrowToE4m3AsTheToolkitsDo) {
  for (const float x : FloatsToNarrow()) {
    const uint32_t wanted = __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
    const uint32_t got = cuda::FloatToE4m3(x);
    if ((wanted & 0x7f) == 0x7f && (got & 0x7f) == 0x7f) continue;
    ASSERT_EQ(got, wanted) << std::hex << std::bit_cast<uint32_t>(x);
  }
}

// Zeros, the smallest and largest of either kind, infinities, NaN, and small whole numbers.
const std::vector<uint32_t>& SpecialHalves() {
  static const std::vector<uint32_t> halves = [] {
    std::vector<uint32_t> all;
    for (const uint32_t h :
         {0x0000, 0x0001, 0x0002, 0x0003, 0x01ff, 0x0200, 0x03ff, 0x0400, 0x0401, 0x07ff,
          0x1400, 0x1bff, 0x3800, 0x3bff, 0x3c00, 0x3c01, 0x3e00, 0x4000, 0x4200, 0x4400,
          0x6400, 0x6401, 0x6bff, 0x77ff, 0x7800, 0x7bfe, 0x7bff, 0x7c00, 0x7e00}) {
      all.push_back(h);
      all.push_back(h | 0x8000);
    }
    return all;
  }();
  return halves;
}

void ExpectPair(uint32_t a, uint32_t b) {
  const __half2 x = __halves2half2(Half(a & 0xffff), Half(a >> 16));
  const __half2 y = __halves2half2(Half(b & 0xffff), Half(b >> 16));
  const uint32_t difference = cuda::SubtractHalves(a, b), product = cuda::MultiplyHalves(a, b);
  ExpectSameHalf(difference & 0xffff, BitsOfHalf(__low2half(__hsub2(x, y))), a, b);
  ExpectSameHalf(difference >> 16, BitsOfHalf(__high2half(__hsub2(x, y))), a, b);
  ExpectSameHalf(product & 0xffff, BitsOfHalf(__low2half(__hmul2(x, y))), a, b);
  ExpectSameHalf(product >> 16, BitsOfHalf(__high2half(__hmul2(x, y))), a, b);
}

TEST(Number, PairsOfHalvesSubtractAndMultiplyAsTheToolkitsDo) {
  for (const uint32_t a : SpecialHalves()) {
    for (const uint32_t b : SpecialHalves()) ExpectPair(a | b << 16, b | a << 16);
  }
  std::mt19937 random(2);
  for (int i = 0; i < kRandom / 2 && !Failed(); ++i) {
    const auto a = static_cast<uint32_t>(random()), b = static_cast<uint32_t>(random());
    ExpectPair(a, b);
    ExpectPair(a, (b & 0x83ff83ff) | (a & 0x7c007c00));  // of the same size
  }
}

// A half that is neither infinite nor NaN, in units of 2^-24.
__int128 Units(uint32_t half) {
  const uint32_t exponent = half >> 10 & 31, fraction = half & 0x3ff;
  const __int128 size =
      exponent == 0 ? fraction : static_cast<__int128>(fraction | 0x400) << (exponent - 1);
  return (half & 0x8000) != 0 ? -size : size;
}

// The half nearest to `units` of 2^-48, other than 0; of two, the even one.
uint32_t Nearest(__int128 units) {
  const uint32_t sign = units < 0 ? 0x8000 : 0;
  const __int128 size = units < 0 ? -units : units;
  uint32_t low = 0, high = 0x7c00;  // low: the largest half that is not above
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (Units(middle) << 24 <= size ? low : high) = middle;
  }
  const __int128 below = Units(low) << 24;
  const __int128 above = low == 0x7bff ? static_cast<__int128>(1) << 64 : Units(low + 1) << 24;
  const __int128 twice = 2 * size - below - above;
  return sign | (twice > 0 || (twice == 0 && low % 2 == 1) ? low + 1 : low);
}

uint32_t ExactFma(uint32_t a, uint32_t b, uint32_t c) {
  const auto finite = [](uint32_t half) { return (half & 0x7c00) != 0x7c00; };
  const bool all_finite = finite(a) && finite(b) && finite(c);
  const __int128 units = all_finite ? Units(a) * Units(b) + (Units(c) << 24) : 0;
  if (units != 0) return Nearest(units);
  // Signs of zeros, infinities and NaN are those of the same sum in double.
  const double x = __half2float(Half(a)), y = __half2float(Half(b)), z = __half2float(Half(c));
  return BitsOfHalf(__float2half_rn(static_cast<float>(std::fma(x, y, z))));
}

void ExpectFma(uint32_t a, uint32_t b, uint32_t c) {
  const uint32_t got = cuda::FmaHalves(a | b << 16, b | a << 16, c | c << 16);
  const uint32_t wanted = ExactFma(a, b, c);
  ExpectSameHalf(got & 0xffff, wanted, a, b, c);
  ExpectSameHalf(got >> 16, wanted, b, a, c);
}

TEST(Number, FusedMultiplyAddsOfHalvesRoundOnce) {
  for (const uint32_t a : SpecialHalves()) {
    for (const uint32_t b : SpecialHalves()) {
      for (const uint32_t c : SpecialHalves()) ExpectFma(a, b, c);
    }
  }
  std::mt19937 random(3);
  for (int i = 0; i < kRandom / 6 && !Failed(); ++i) {
    const auto bits = static_cast<uint32_t>(random());
    const uint32_t a = bits & 0xffff, b = bits >> 16, c = random() & 0xffff;
    ExpectFma(a, b, c);
    // As large as the product, then so that much of it goes.
    const uint32_t product = BitsOfHalf(__hmul(Half(a), Half(b)));
    ExpectFma(a, b, (c & 0x83ff) | (product & 0x7c00));
    ExpectFma(a, b, product ^ 0x8000);
  }
}

}  // namespace
}  // namespace sluice::simt

#else

TEST(Number, AreTheToolkits) { GTEST_SKIP() << "the headers of CUDA are not there"; }

#endif
