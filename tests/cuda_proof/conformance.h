// What each function that kernels are written in does: a kernel for each, run by the emulator, by
// the interpreter of the PTX that nvcc makes of it (ptx.py) and by a card, with equal bits.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

namespace sluice::cuda {

// How the words that a case reads are made of random ones; every kind holds its special numbers.
enum class Words : uint8_t {
  kAny,
  kFloats,     // of all sizes, a zero, an infinity, NaN
  kHalves,     // pairs of f16 likewise
  kLogits,     // floats from -100 to 100
  kBf16Whole,  // pairs of whole numbers from -8 to 7, whose products add up without rounding
  kF16Whole,
  kE4m3Whole,  // four a word
};

struct ConformanceCase {
  const char* name;
  Words words;
  uint32_t num_in, num_out;  // words; out is all zeros before
  uint32_t blocks, threads;
  void (*kernel)(const uint32_t* in, uint32_t* out);
};
[[nodiscard]] std::span<const ConformanceCase> ConformanceCases();
// in [num_in] and out [num_out] are device memory.
cudaError_t LaunchCase(const ConformanceCase& conformance_case, const uint32_t* in, uint32_t* out,
                       cudaStream_t stream);

}  // namespace sluice::cuda
