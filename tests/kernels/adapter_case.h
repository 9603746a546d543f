// What any backend's low-rank additions must do.
#pragma once

#include <functional>
#include <vector>

#include "kernels/ops.h"

namespace sluice {

// AddAdapters as one step over `batch`: x [T,K] and out [T,N], row by row; returns out.
using RunAdapters =
    std::function<std::vector<float>(const BatchView& batch, const Adapters& adapters,
                                     const std::vector<float>& x, const std::vector<float>& out)>;

// Rows of several lengths with their adapters, against double precision; the same bits when each
// row is alone; rows without one untouched. halfs: the factors are f16.
void ExpectAdaptersAdd(Ops& ops, int32_t rows, int32_t cols, bool halfs, const RunAdapters& run);
// Ranks, shapes and types that are refused, by name.
void ExpectAdaptersRefused(Ops& ops);

}  // namespace sluice
