// The matrix instructions against plain loops. The numbers are whole and small, so that every sum
// is exact; all of A and all of B differ, so that a wrong lane or register shows.
#include "kernels/cuda/matrix.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace sluice::simt {
namespace {

uint16_t Bf16(int value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16);
}
uint16_t F16(int value) { return std::bit_cast<uint16_t>(static_cast<_Float16>(value)); }
// Three bits of fraction: 0 to 15 and their negatives are there.
uint8_t E4m3(int value) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(std::abs(value)) * 0x1p-120F);
  return static_cast<uint8_t>(bits >> 20 | (value < 0 ? 0x80 : 0));
}
int8_t Int8(int value) { return static_cast<int8_t>(value); }

// limit: of what the elements' type holds exactly.
int AAt(int row, int k, int limit) { return (row * 29 + k * 7) % (2 * limit + 1) - limit; }
int BAt(int k, int column, int limit) { return (k * 13 + column * 31) % (2 * limit) - limit; }
int CAt(int row, int column) { return row * 8 + column; }

int Expected(int row, int column, int depth, int limit) {
  int sum = CAt(row, column);
  for (int k = 0; k < depth; ++k) sum += AAt(row, k, limit) * BAt(k, column, limit);
  return sum;
}

// One product D = A B + C of kDepth, fragments gathered element by element.
template <int kDepth, class Element, class Number>
void ExpectProduct(Element (*encode)(int), int limit,
                   void (*multiply)(const uint32_t (&)[4], const uint32_t (&)[2], Number (&)[4])) {
  constexpr int kPerRegister = 4 / sizeof(Element);
  std::vector<Number> d(16 * 8);
  const LaunchReport report = RunGrid({.kernel = "product", .block = {32}, .seed = 1}, [&] {
    const int lane = static_cast<int>(cuda::ThreadIndex().x), g = lane / 4, t = lane % 4;
    Element a[4][kPerRegister], b[2][kPerRegister];
    for (int i = 0; i < kPerRegister; ++i) {
      const int k = t * kPerRegister + i;
      a[0][i] = encode(AAt(g, k, limit));
      a[1][i] = encode(AAt(g + 8, k, limit));
      a[2][i] = encode(AAt(g, k + kDepth / 2, limit));
      a[3][i] = encode(AAt(g + 8, k + kDepth / 2, limit));
      b[0][i] = encode(BAt(k, g, limit));
      b[1][i] = encode(BAt(k + kDepth / 2, g, limit));
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
  EXPECT_EQ(report.matrix_instructions, 1U);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      EXPECT_EQ(d[row * 8 + column], static_cast<Number>(Expected(row, column, kDepth, limit)))
          << row << ", " << column;
    }
  }
}

TEST(Matrix, ProductsOfWholeNumbersAreExact) {
  using Registers = uint32_t[4];
  using Half = uint32_t[2];
  ExpectProduct<16, uint16_t, float>(Bf16, 63, [](const Registers& a, const Half& b, float(&c)[4]) {
    cuda::MultiplyBf16(a, b, c);
  });
  ExpectProduct<16, uint16_t, float>(
      F16, 63, [](const Registers& a, const Half& b, float(&c)[4]) { cuda::MultiplyF16(a, b, c); });
  ExpectProduct<32, int8_t, int32_t>(
      Int8, 127,
      [](const Registers& a, const Half& b, int32_t(&c)[4]) { cuda::MultiplyInt8(a, b, c); });
  ExpectProduct<32, uint8_t, float>(E4m3, 15, [](const Registers& a, const Half& b, float(&c)[4]) {
    cuda::MultiplyE4m3(a, b, c);
  });
}

// Rows of A in shared memory, loaded as a tile of 16 x 16 is for a product: matrices 0 and 1 are
// its left half, 2 and 3 its right one. Transposed, lane by lane the tile's transpose.
void ExpectLoaded(bool transposed) {
  std::vector<uint32_t> registers(32 * 4);
  const LaunchReport report = RunGrid({.kernel = "load", .block = {32}, .seed = 2}, [&] {
    SLUICE_SHARED(uint16_t, tile, [16 * 16]);
    const uint32_t lane = cuda::ThreadIndex().x;
    for (uint32_t i = lane; i < 256; i += 32) tile[i] = static_cast<uint16_t>(1000 + i);
    cuda::SyncWarp();
    uint32_t out[4];
    const uint16_t* const row = tile + lane % 16 * 16 + lane / 16 * 8;
    if (transposed) {
      cuda::LoadMatricesTransposed(row, out);
    } else {
      cuda::LoadMatrices(row, out);
    }
    for (uint32_t m = 0; m < 4; ++m) registers[lane * 4 + m] = out[m];
  });
  ASSERT_TRUE(report.findings.empty()) << report.findings[0].ToString();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t m = 0; m < 4; ++m) {
      const uint32_t g = lane / 4, t = lane % 4, origin = m % 2 * 8 * 16 + m / 2 * 8;
      const uint32_t first = 1000 + origin + (transposed ? 2 * t * 16 + g : g * 16 + 2 * t);
      const uint32_t second = first + (transposed ? 16 : 1);
      EXPECT_EQ(registers[lane * 4 + m], first | second << 16) << lane << ", " << m;
    }
  }
}

TEST(Matrix, LoadedMatricesAreTheFragmentsOfA) { ExpectLoaded(false); }
TEST(Matrix, TransposedMatricesAreTheFragmentsOfTheTranspose) { ExpectLoaded(true); }

}  // namespace
}  // namespace sluice::simt
