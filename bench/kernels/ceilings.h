// What this machine can do at most, measured: the peaks that the kernels are compared with.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa.h"

namespace sluice::bench {

// Bytes per second that `threads` threads together read from memory far larger than the caches.
double ReadBandwidth(int threads);

// Multiply-adds of int8 per second, counted as two operations: vpdpbusd for kAvx512, vpmaddubsw for
// kAvx2; 0 for kScalar.
double IntegerPeak(CpuIsa isa, int threads);

// f32 fused multiply-adds per second, counted as two operations; 0 for kScalar.
double FloatPeak(CpuIsa isa, int threads);

}  // namespace sluice::bench
