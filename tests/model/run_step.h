// One step of a transformer from rows written as lists.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "model/transformer.h"

namespace sluice {

// One row of a step.
struct StepRow {
  std::vector<int32_t> tokens;
  int32_t num_cached = 0;
  std::vector<int32_t> blocks;  // for cached and new
  bool output = true;
};

// The logits of the rows with output, in order; or what stands before the head.
std::vector<std::vector<float>> RunStep(Transformer& transformer, Ops& ops,
                                        const std::vector<StepRow>& rows, bool states = false);

}  // namespace sluice
