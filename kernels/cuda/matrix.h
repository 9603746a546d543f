// The matrix instructions that kernels use, as device.h has the others. Fragments as the PTX ISA
// lays them out ("Matrix Fragments for mma.m16n8k16" and "m16n8k32"): with g = lane / 4 and
// t = lane % 4, one lane's registers hold of D[16, 8] = A[16, K] B[K, 8] + C, K = 32 bytes wide,
// e the elements of a register (2 of 16 bits, 4 of 8):
//
//   a[0], a[1], a[2], a[3]   A[g, e t ..], A[g + 8, e t ..], and both again K/2 further
//   b[0], b[1]               B[e t .., g], and K/2 further
//   c[0..1], c[2..3]         C[g, 2t ..], C[g + 8, 2t ..]
//
// All 32 lanes take part. The emulator adds up the K products in order before it adds C; hardware
// promises no order, so that only sums that are exact have the same bits there.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

#if defined(__CUDACC__)

namespace sluice::cuda {

// Four 8 x 8 matrices of 16-bit elements from shared memory: `row` is row lane % 8 of matrix
// lane / 8, 16 aligned bytes; out[m] gets elements 2t and 2t + 1 of row g of matrix m.
SLUICE_DEVICE void LoadMatrices(const void* row, uint32_t (&out)[4]) {
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from)
               : "memory");
}

// The same matrices transposed: out[m] gets element g of rows 2t and 2t + 1.
SLUICE_DEVICE void LoadMatricesTransposed(const void* row, uint32_t (&out)[4]) {
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from)
               : "memory");
}

#define SLUICE_MMA(shape_and_types, constraint)                                         \
  asm volatile("mma.sync.aligned." shape_and_types                                      \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"       \
               : constraint(c[0]), constraint(c[1]), constraint(c[2]), constraint(c[3]) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

SLUICE_DEVICE void MultiplyBf16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4]) {
  SLUICE_MMA("m16n8k16.row.col.f32.bf16.bf16.f32", "+f");
}
SLUICE_DEVICE void MultiplyF16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4]) {
  SLUICE_MMA("m16n8k16.row.col.f32.f16.f16.f32", "+f");
}
SLUICE_DEVICE void MultiplyInt8(const uint32_t (&a)[4], const uint32_t (&b)[2], int32_t (&c)[4]) {
  SLUICE_MMA("m16n8k32.row.col.s32.s8.s8.s32", "+r");
}
// There is no such instruction before sm_89: a kernel that has it must not be launched there.
SLUICE_DEVICE void MultiplyE4m3(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4]) {
#if __CUDA_ARCH__ >= 890
  SLUICE_MMA("m16n8k32.row.col.f32.e4m3.e4m3.f32", "+f");
#else
  (void)a, (void)b, (void)c;
  __trap();
#endif
}

#undef SLUICE_MMA

}  // namespace sluice::cuda

#else

#include <cstring>

namespace sluice::cuda {

template <bool kTransposed>
inline void LoadMatrices(const void* row, uint32_t (&out)[4], simt::Site site) {
  struct Part {
    const void* row;
    uint32_t* out;
  } mine{row, out};
  const auto load = [](void** lanes, uint32_t) {
    for (uint32_t lane = 0; lane < simt::kWarpThreads; ++lane) {
      const uint32_t g = lane / 4, t = lane % 4;
      for (uint32_t m = 0; m < 4; ++m) {
        uint16_t elements[2];
        for (uint32_t i = 0; i < 2; ++i) {
          const uint32_t r = kTransposed ? 2 * t + i : g, column = kTransposed ? g : 2 * t + i;
          const void* const from = static_cast<Part*>(lanes[m * 8 + r])->row;
          std::memcpy(&elements[i], static_cast<const char*>(from) + column * 2, 2);
        }
        std::memcpy(&static_cast<Part*>(lanes[lane])->out[m], elements, 4);
      }
    }
  };
  simt::Announce(row, 16, simt::AccessKind::kRead, site);
  simt::Together(kFullMask, &mine, load, site);
}

inline void LoadMatrices(const void* row, uint32_t (&out)[4], const char* file = __builtin_FILE(),
                         uint32_t line = __builtin_LINE()) {
  LoadMatrices<false>(row, out, {file, line});
}
inline void LoadMatricesTransposed(const void* row, uint32_t (&out)[4],
                                   const char* file = __builtin_FILE(),
                                   uint32_t line = __builtin_LINE()) {
  LoadMatrices<true>(row, out, {file, line});
}

// kBits: of an element; Number: what products are summed in; decode(bits): an element's value.
template <int kBits, class Number, class Decode>
inline void Multiply(const uint32_t (&a)[4], const uint32_t (&b)[2], Number (&c)[4], Decode,
                     simt::Site site) {
  struct Part {
    const uint32_t* a;
    const uint32_t* b;
    Number* c;
  } mine{a, b, c};
  const auto multiply = [](void** lanes, uint32_t) {
    simt::CountMatrixInstruction();
    constexpr int kPerRegister = 32 / kBits, kDepth = 256 / kBits;
    const auto element = [](uint32_t reg, int i) {
      return Decode()(reg >> (i * kBits) & static_cast<uint32_t>((uint64_t{1} << kBits) - 1));
    };
    Number rows[16][kDepth], columns[8][kDepth];
    for (int lane = 0; lane < 32; ++lane) {
      const Part& part = *static_cast<Part*>(lanes[lane]);
      const int g = lane / 4, k = lane % 4 * kPerRegister;
      for (int i = 0; i < kPerRegister; ++i) {
        rows[g][k + i] = element(part.a[0], i);
        rows[g + 8][k + i] = element(part.a[1], i);
        rows[g][k + kDepth / 2 + i] = element(part.a[2], i);
        rows[g + 8][k + kDepth / 2 + i] = element(part.a[3], i);
        columns[g][k + i] = element(part.b[0], i);
        columns[g][k + kDepth / 2 + i] = element(part.b[1], i);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        Number sum = 0;
        for (int k = 0; k < kDepth; ++k) sum += rows[row][k] * columns[column][k];
        static_cast<Part*>(lanes[lane])->c[i] += sum;
      }
    }
  };
  simt::Together(kFullMask, &mine, multiply, site);
}

inline void MultiplyBf16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4],
                         const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
  const auto decode = [](uint32_t bits) { return __builtin_bit_cast(float, bits << 16); };
  Multiply<16>(a, b, c, decode, {file, line});
}
inline void MultiplyF16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4],
                        const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
  const auto decode = [](uint32_t bits) {
    return static_cast<float>(__builtin_bit_cast(_Float16, static_cast<uint16_t>(bits)));
  };
  Multiply<16>(a, b, c, decode, {file, line});
}
inline void MultiplyInt8(const uint32_t (&a)[4], const uint32_t (&b)[2], int32_t (&c)[4],
                         const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
  const auto decode = [](uint32_t bits) { return int32_t{static_cast<int8_t>(bits)}; };
  Multiply<8>(a, b, c, decode, {file, line});
}
inline void MultiplyE4m3(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4],
                         const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
  // Exponent and fraction at a float's place, whose bias is 120 more; all ones is the only NaN.
  const auto decode = [](uint32_t bits) {
    const uint32_t size = bits & 0x7f;
    if (size == 0x7f) return __builtin_nanf("");
    const float value = __builtin_bit_cast(float, size << 20) * 0x1p120F;
    return bits < 0x80 ? value : -value;
  };
  Multiply<8>(a, b, c, decode, {file, line});
}

}  // namespace sluice::cuda

#endif
