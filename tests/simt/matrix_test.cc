// The matrix instructions against plain loops. The numbers are whole and small, so that every sum
// is exact; all of A and all of B differ, so that a wrong lane or register shows.
#include "kernels/cuda/matrix.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <vector>

namespace sluice::simt {
namespace {

uint16_t Bf16(int value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16);
}
uint16_t F16(int value) { return std::bit_cast<uint16_t>(static_cast<_Float16>(value)); }
int8_t Int8(int value) { return static_cast<int8_t>(value); }

int AAt(int row, int k) { return (row * 29 + k * 7) % 127 - 63; }
int BAt(int k, int column) { return (k * 13 + column * 31) % 113 - 56; }
int CAt(int row, int column) { return row * 8 + column; }

int Expected(int row, int column, int depth) {
  int sum = CAt(row, column);
  for (int k = 0; k < depth; ++k) sum += AAt(row, k) * BAt(k, column);
  return sum;
}

// One product D = A B + C of kDepth, fragments gathered element by element.
template <int kDepth, class Element, class Number>
void ExpectProduct(Element (*encode)(int),
                   void (*multiply)(const uint32_t (&)[4], const uint32_t (&)[2], Number (&)[4])) {
  constexpr int kPerRegister = 4 / sizeof(Element);
  std::vector<Number> d(16 * 8);
  const LaunchReport report = RunGrid({.kernel = "product", .block = {32}, .seed = 1}, [&] {
    const int lane = static_cast<int>(cuda::ThreadIndex().x), g = lane / 4, t = lane % 4;
    Element a[4][kPerRegister], b[2][kPerRegister];
    for (int i = 0; i < kPerRegister; ++i) {
      const int k = t * kPerRegister + i;
      a[0][i] = encode(AAt(g, k));
      a[1][i] = encode(AAt(g + 8, k));
      a[2][i] = encode(AAt(g, k + kDepth / 2));
      a[3][i] = encode(AAt(g + 8, k + kDepth / 2));
      b[0][i] = encode(BAt(k, g));
      b[1][i] = encode(BAt(k + kDepth / 2, g));
    }
    uint32_t a_registers[4], b_registers[2];
    std::memcpy(a_registers, a, sizeof(a));
    std::memcpy(b_registers, b, sizeof(b));
    Number c[4];
    for (int i = 0; i < 4; ++i) c[i] = static_cast<Number>(CAt(g + i / 2 * 8, 2 * t + i % 2));
    multiply(a_registers, b_registers, c);
    for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = c[i];
  });
  ASSERT_TRUE(report.findings.empty()) << report.findings[0].ToString();
  EXPECT_EQ(report.warp_operations, 1U);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      EXPECT_EQ(d[row * 8 + column], static_cast<Number>(Expected(row, column, kDepth)))
          << row << ", " << column;
    }
  }
}

TEST(Matrix, ProductsOfWholeNumbersAreExact) {
  ExpectProduct<16, uint16_t, float>(Bf16, [](const uint32_t(&a)[4], const uint32_t(&b)[2],
                                              float(&c)[4]) { cuda::MultiplyBf16(a, b, c); });
  ExpectProduct<16, uint16_t, float>(F16, [](const uint32_t(&a)[4], const uint32_t(&b)[2],
                                             float(&c)[4]) { cuda::MultiplyF16(a, b, c); });
  ExpectProduct<32, int8_t, int32_t>(Int8, [](const uint32_t(&a)[4], const uint32_t(&b)[2],
                                              int32_t(&c)[4]) { cuda::MultiplyInt8(a, b, c); });
}

// Rows of A in shared memory, loaded as a tile of 16 x 16 is for a product: matrices 0 and 1 are
// its left half, 2 and 3 its right one.
TEST(Matrix, LoadedMatricesAreTheFragmentsOfA) {
  std::vector<uint32_t> registers(32 * 4);
  const LaunchReport report = RunGrid({.kernel = "load", .block = {32}, .seed = 2}, [&] {
    SLUICE_SHARED(uint16_t, tile, [16 * 16]);
    const uint32_t lane = cuda::ThreadIndex().x;
    for (uint32_t i = lane; i < 256; i += 32) tile[i] = static_cast<uint16_t>(1000 + i);
    cuda::SyncWarp();
    uint32_t out[4];
    cuda::LoadMatrices(tile + lane % 16 * 16 + lane / 16 * 8, out);
    for (uint32_t m = 0; m < 4; ++m) registers[lane * 4 + m] = out[m];
  });
  ASSERT_TRUE(report.findings.empty()) << report.findings[0].ToString();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t m = 0; m < 4; ++m) {
      const uint32_t row = lane / 4 + m % 2 * 8, column = lane % 4 * 2 + m / 2 * 8;
      const uint32_t first = 1000 + row * 16 + column;
      EXPECT_EQ(registers[lane * 4 + m], first | (first + 1) << 16) << lane << ", " << m;
    }
  }
}

}  // namespace
}  // namespace sluice::simt
