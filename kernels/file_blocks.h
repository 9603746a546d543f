// What a quantised block of a model file holds, as integers: one reading for Embed and for packing.
//
// Element i of a block is d * scale[i/16] * q[i] + m * minimum[i/16], with d and m the block's f16
// numbers and q[i] = code[i] - offset, or the table's value for IQ4_NL. Blocks of 32 have one scale
// and no scale[]; super-blocks of 256 (the K types) have small integer scales for every 16 or 32.
// d * scale has at most 18 significant bits and d * scale * q at most 24, so both are exact in f32.
//
// The formats are those of ggml's files; bit i of a byte is 1 << i. Everything here is static: the
// files compiled for each ISA form include it (see isa/form.h).
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace sluice {

constexpr int kSuperBlock = 256;

// IQ4_NL's 16 values.
constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

struct FileBlock {
  uint8_t code[kSuperBlock];  // below 2^bits of the type
  int8_t scale[16];
  int8_t minimum[16];
};

// Where the f16 numbers are, and what a code stands for.
struct BlockFormat {
  int d_at = 0;
  int m_at = -1;  // -1: none
  int offset = 0;
  int elements = 32;
};
constexpr static inline BlockFormat BlockFormatOf(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return {0, -1, 128};
    case DType::kQ4_0:
      return {0, -1, 8};
    case DType::kQ5_0:
      return {0, -1, 16};
    case DType::kQ4_1:
    case DType::kQ5_1:
      return {0, 2, 0};
    case DType::kQ2K:
      return {80, 82, 0, kSuperBlock};
    case DType::kQ3K:
      return {108, -1, 4, kSuperBlock};
    case DType::kQ4K:
    case DType::kQ5K:
      return {0, 2, 0, kSuperBlock};
    case DType::kQ6K:
      return {208, -1, 32, kSuperBlock};
    default:
      return {};
  }
}

// code[0..n) takes the low halves of n bytes, code[n..2n) the high ones.
static inline void ReadNibbles(const uint8_t* in, int n, uint8_t* code) {
  for (int i = 0; i < n; ++i) {
    code[i] = in[i] & 15;
    code[n + i] = in[i] >> 4;
  }
}

// Adds bit i of the 32 at `in` to code[i], as bit 4.
static inline void AddFifthBits(const uint8_t* in, uint8_t* code) {
  for (int g = 0; g < 8; ++g) {
    const uint32_t four = in[g / 2] >> (g % 2 * 4) & 15;
    const uint32_t spread = four * 0x00204081U & 0x01010101U;  // a bit to each byte
    uint32_t word = 0;
    __builtin_memcpy(&word, code + 4 * g, 4);
    word |= spread << 4;
    __builtin_memcpy(code + 4 * g, &word, 4);
  }
}

// 64 bytes of four 2-bit fields: byte 32h + l holds the elements 128h + 32j + l, j = 0..3
// ascending.
static inline void ReadCrumbs(const uint8_t* in, uint8_t* code) {
  for (int b = 0; b < 8; ++b) {
    for (int l = 0; l < 32; ++l) code[32 * b + l] = in[b / 4 * 32 + l] >> (b % 4 * 2) & 3;
  }
}

// Adds bit b of byte l to code[32b + l], as bit `to`.
static inline void AddBitPlanes(const uint8_t* in, int to, uint8_t* code) {
  for (int b = 0; b < 8; ++b) {
    for (int l = 0; l < 32; ++l)
      code[32 * b + l] = static_cast<uint8_t>(code[32 * b + l] | (in[l] >> b & 1) << to);
  }
}

// Q4_K and Q5_K: eight 6-bit scales and minima in 12 bytes. The first four of each are the low bits
// of bytes 0-3 and 4-7, whose two top bits complete the others, nibbles of bytes 8-11.
static inline void ReadSixBitPairs(const uint8_t* in, FileBlock& out) {
  for (int b = 0; b < 8; ++b) {
    int scale = in[b % 4] & 63;
    int minimum = in[4 + b % 4] & 63;
    if (b >= 4) {
      scale = (in[4 + b] & 15) | in[b - 4] >> 6 << 4;
      minimum = in[4 + b] >> 4 | in[b] >> 6 << 4;
    }
    out.scale[2 * b] = out.scale[2 * b + 1] = static_cast<int8_t>(scale);
    out.minimum[2 * b] = out.minimum[2 * b + 1] = static_cast<int8_t>(-minimum);
  }
}

static inline void ReadQ2K(const uint8_t* in, FileBlock& out) {
  ReadCrumbs(in + 16, out.code);
  for (int i = 0; i < 16; ++i) {
    out.scale[i] = in[i] & 15;
    out.minimum[i] = static_cast<int8_t>(-(in[i] >> 4));
  }
}

// The third bits are planes. Scales have 6 bits, 32 added: nibbles of
// bytes 96-103, then 2-bit fields of bytes 104-107.
static inline void ReadQ3K(const uint8_t* in, FileBlock& out) {
  ReadCrumbs(in + 32, out.code);
  AddBitPlanes(in, 2, out.code);
  const uint8_t* scales = in + 96;
  for (int i = 0; i < 16; ++i) {
    const int low = scales[i % 8] >> (i / 8 * 4) & 15;
    const int high = scales[8 + i % 4] >> (i / 4 * 2) & 3;
    out.scale[i] = static_cast<int8_t>((low | high << 4) - 32);
    out.minimum[i] = 0;
  }
}

static inline void ReadQ4Or5K(const uint8_t* in, bool five, FileBlock& out) {
  ReadSixBitPairs(in + 4, out);
  const uint8_t* nibbles = in + (five ? 48 : 16);
  for (int j = 0; j < 4; ++j) ReadNibbles(nibbles + 32 * j, 32, out.code + 64 * j);
  if (five) AddBitPlanes(in + 16, 4, out.code);
}

static inline void ReadQ6K(const uint8_t* in, FileBlock& out) {
  for (int h = 0; h < 2; ++h) {
    uint8_t* code = out.code + 128 * h;
    ReadNibbles(in + 64 * h, 64, code);
    for (int j = 0; j < 4; ++j) {
      for (int l = 0; l < 32; ++l) {
        const int top = in[128 + 32 * h + l] >> (2 * j) & 3;
        code[32 * j + l] = static_cast<uint8_t>(code[32 * j + l] | top << 4);
      }
    }
  }
  for (int i = 0; i < 16; ++i) {
    out.scale[i] = static_cast<int8_t>(in[192 + i]);
    out.minimum[i] = 0;
  }
}

// `in`: one block. Fills as many codes and scales as the type has elements and sub-blocks. Inlined,
// so that a constant type leaves one of the cases.
[[gnu::always_inline]] static inline void ReadFileBlock(DType dtype, const uint8_t* in,
                                                        FileBlock& out) {
  out.scale[0] = out.scale[1] = 1;
  out.minimum[0] = out.minimum[1] = BlockFormatOf(dtype).m_at >= 0 ? 1 : 0;
  switch (dtype) {
    case DType::kQ8_0:
      for (int i = 0; i < 32; ++i) out.code[i] = in[2 + i] ^ 0x80;
      return;
    case DType::kQ4_0:
    case DType::kIq4Nl:
      return ReadNibbles(in + 2, 16, out.code);
    case DType::kQ4_1:
      return ReadNibbles(in + 4, 16, out.code);
    case DType::kQ5_0:
      ReadNibbles(in + 6, 16, out.code);
      return AddFifthBits(in + 2, out.code);
    case DType::kQ5_1:
      ReadNibbles(in + 8, 16, out.code);
      return AddFifthBits(in + 4, out.code);
    case DType::kQ2K:
      return ReadQ2K(in, out);
    case DType::kQ3K:
      return ReadQ3K(in, out);
    case DType::kQ4K:
      return ReadQ4Or5K(in, false, out);
    case DType::kQ5K:
      return ReadQ4Or5K(in, true, out);
    case DType::kQ6K:
      return ReadQ6K(in, out);
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kFp8:
    case DType::kFp8A8:
      return;
  }
}

}  // namespace sluice
