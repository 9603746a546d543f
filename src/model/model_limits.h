// Limits of what a model's files may claim, whatever their format: far above any model of today and
// far below where a product of two would overflow 31 bits of a column count.
#pragma once

#include <cstdint>

namespace sluice {

inline constexpr int64_t kMaxModelDim = 1 << 16, kMaxFfnDim = 1 << 19, kMaxLayers = 1024,
                         kMaxHeads = 1024;
inline constexpr int64_t kMaxHeadDim = 256, kMaxVocab = 1 << 21, kMaxContext = 1 << 24,
                         kMaxMerges = 1 << 22;
inline constexpr int64_t kMaxQkvCols = 1 << 18;
inline constexpr int64_t kMaxExperts = 1024, kMaxExpertsUsed = 64;
inline constexpr uint64_t kMaxTemplateBytes = 1 << 20;

}  // namespace sluice
