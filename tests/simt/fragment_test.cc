// Which element each register of each lane holds, against the layouts of CuTe (the headers of
// NVIDIA's CUTLASS), for every instruction of kernels/cuda/matrix.h. One element of A or of B is
// not zero at a time, and the other matrix tells its elements apart, so that no two wrong places
// can make up for each other.
#include <gtest/gtest.h>

#if __has_include(<cute/atom/mma_traits_sm80.hpp>)

#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/mma_traits_sm89.hpp>
#include <vector>

#include "kernels/cuda/matrix.h"

namespace sluice::simt {
namespace {

constexpr int kLanes = 32, kRows = 16, kColumns = 8;

template <class Layout>
int At(Layout layout, int lane, int value) {
  return static_cast<int>(layout(lane, value));
}

// An instruction, the traits that describe it, and how it writes 0 to 7.
template <class Traits, int kBits, class Number, uint32_t kEncoded0To7[8],
          void (*kMultiply)(const uint32_t (&)[4], const uint32_t (&)[2], Number (&)[4])>
class Product {
 public:
  static constexpr int kDepth = 256 / kBits, kPerRegister = 32 / kBits;
  static constexpr int kAValues = 4 * kPerRegister, kBValues = 2 * kPerRegister;

  // The other matrix's element at (row or column i, k) by three digits of base 8, one a pass.
  static int Digit(int i, int k, int pass) { return (i * kDepth + k) >> (3 * pass) & 7; }

  // One element of A is 1, that of lane `lane` and place `value`.
  static void ExpectPlaceOfA(int lane, int value) {
    const int place = At(typename Traits::ALayout{}, lane, value);
    const int row = place % kRows, depth = place / kRows;
    for (int pass = 0; pass < 3; ++pass) {
      const std::vector<Number> d =
          Multiply([&](int l, int v) { return l == lane && v == value ? 1 : 0; },
                   [&](int l, int v) {
                     const int b = At(typename Traits::BLayout{}, l, v);
                     return Digit(b % kColumns, b / kColumns, pass);
                   });
      for (int m = 0; m < kRows; ++m) {
        for (int n = 0; n < kColumns; ++n) {
          ASSERT_EQ(d[m + n * kRows], m == row ? Digit(n, depth, pass) : 0)
              << "lane " << lane << ", value " << value << " of A";
        }
      }
    }
  }

  static void ExpectPlaceOfB(int lane, int value) {
    const int place = At(typename Traits::BLayout{}, lane, value);
    const int column = place % kColumns, depth = place / kColumns;
    for (int pass = 0; pass < 3; ++pass) {
      const std::vector<Number> d = Multiply(
          [&](int l, int v) {
            const int a = At(typename Traits::ALayout{}, l, v);
            return Digit(a % kRows, a / kRows, pass);
          },
          [&](int l, int v) { return l == lane && v == value ? 1 : 0; });
      for (int m = 0; m < kRows; ++m) {
        for (int n = 0; n < kColumns; ++n) {
          ASSERT_EQ(d[m + n * kRows], n == column ? Digit(m, depth, pass) : 0)
              << "lane " << lane << ", value " << value << " of B";
        }
      }
    }
  }

  static void ExpectAll() {
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int value = 0; value < kAValues; ++value) ExpectPlaceOfA(lane, value);
      for (int value = 0; value < kBValues; ++value) ExpectPlaceOfB(lane, value);
    }
  }

 private:
  // D of the fragments that a(lane, value) and b(lane, value) give, by CuTe's layout of D.
  template <class A, class B>
  static std::vector<Number> Multiply(A a, B b) {
    std::vector<Number> d(kRows * kColumns, -1);
    const LaunchReport report = RunGrid({.kernel = "product", .block = {kLanes}}, [&] {
      const int lane = static_cast<int>(cuda::ThreadIndex().x);
      uint32_t a_registers[4] = {}, b_registers[2] = {};
      for (int v = 0; v < kAValues; ++v) {
        a_registers[v / kPerRegister] |= kEncoded0To7[a(lane, v)] << v % kPerRegister * kBits;
      }
      for (int v = 0; v < kBValues; ++v) {
        b_registers[v / kPerRegister] |= kEncoded0To7[b(lane, v)] << v % kPerRegister * kBits;
      }
      Number c[4] = {};
      kMultiply(a_registers, b_registers, c);
      for (int v = 0; v < 4; ++v) d[At(typename Traits::CLayout{}, lane, v)] = c[v];
    });
    EXPECT_TRUE(report.findings.empty()) << report.findings[0].ToString();
    return d;
  }
};

using Registers = uint32_t[4];
using Half = uint32_t[2];
void Bf16(const Registers& a, const Half& b, float (&c)[4]) { cuda::MultiplyBf16(a, b, c); }
void F16(const Registers& a, const Half& b, float (&c)[4]) { cuda::MultiplyF16(a, b, c); }
void E4m3(const Registers& a, const Half& b, float (&c)[4]) { cuda::MultiplyE4m3(a, b, c); }
void Int8(const Registers& a, const Half& b, int32_t (&c)[4]) { cuda::MultiplyInt8(a, b, c); }

uint32_t bf16_digits[8] = {0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
uint32_t f16_digits[8] = {0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700};
uint32_t e4m3_digits[8] = {0, 0x38, 0x40, 0x44, 0x48, 0x4a, 0x4c, 0x4e};
uint32_t int8_digits[8] = {0, 1, 2, 3, 4, 5, 6, 7};

TEST(Fragments, OfBf16ProductsAreCuTes) {
  using Traits = cute::MMA_Traits<cute::SM80_16x8x16_F32BF16BF16F32_TN>;
  Product<Traits, 16, float, bf16_digits, Bf16>::ExpectAll();
}
TEST(Fragments, OfF16ProductsAreCuTes) {
  using Traits = cute::MMA_Traits<cute::SM80_16x8x16_F32F16F16F32_TN>;
  Product<Traits, 16, float, f16_digits, F16>::ExpectAll();
}
TEST(Fragments, OfInt8ProductsAreCuTes) {
  using Traits = cute::MMA_Traits<cute::SM80_16x8x32_S32S8S8S32_TN>;
  Product<Traits, 8, int32_t, int8_digits, Int8>::ExpectAll();
}
TEST(Fragments, OfE4m3ProductsAreCuTes) {
  using Traits = cute::MMA_Traits<cute::SM89_16x8x32_F32E4M3E4M3F32_TN>;
  Product<Traits, 8, float, e4m3_digits, E4m3>::ExpectAll();
}

// Lane l hands in a row of elements 8 l to 8 l + 7; CuTe says from which bit of which row each bit
// of a register comes.
template <class Traits, void (*kLoad)(const void*, uint32_t (&)[4])>
void ExpectLoaded() {
  uint32_t loaded[kLanes][4] = {};
  const LaunchReport report = RunGrid({.kernel = "load", .block = {kLanes}}, [&] {
    SLUICE_SHARED(uint16_t, rows, [kLanes * 8]);
    const uint32_t lane = cuda::ThreadIndex().x;
    uint16_t* const row = rows + (lane * 5 + 3) % kLanes * 8;  // anywhere
    for (uint32_t i = 0; i < 8; ++i) row[i] = static_cast<uint16_t>(lane * 8 + i);
    cuda::SyncWarp();
    uint32_t out[4];
    kLoad(row, out);
    for (int i = 0; i < 4; ++i) loaded[lane][i] = out[i];
  });
  ASSERT_TRUE(report.findings.empty()) << report.findings[0].ToString();
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int element = 0; element < 8; ++element) {
      const int from = At(typename Traits::DstLayout{}, lane, element * 16);
      const uint32_t got = loaded[lane][element / 2] >> (element % 2 * 16) & 0xffff;
      EXPECT_EQ(got, static_cast<uint32_t>(from / 16)) << "lane " << lane << ", " << element;
    }
  }
}

void Load(const void* row, Registers& out) { cuda::LoadMatrices(row, out); }
void LoadTransposed(const void* row, Registers& out) { cuda::LoadMatricesTransposed(row, out); }

TEST(Fragments, OfMatrixLoadsAreCuTes) {
  ExpectLoaded<cute::Copy_Traits<cute::SM75_U32x4_LDSM_N>, Load>();
  ExpectLoaded<cute::Copy_Traits<cute::SM75_U16x8_LDSM_T>, LoadTransposed>();
}

}  // namespace
}  // namespace sluice::simt

#else

TEST(Fragments, AreCuTes) { GTEST_SKIP() << "the headers of CUTLASS are not there"; }

#endif
