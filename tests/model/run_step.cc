#include "tests/model/run_step.h"

#include <gtest/gtest.h>

namespace sluice {

std::vector<std::vector<float>> RunStep(Transformer& transformer, Ops& ops,
                                        const std::vector<StepRow>& rows, bool states) {
  std::vector<int32_t> tokens, positions, row_begin = {0}, context, blocks, block_begin = {0},
                                          slots, outputs;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t i = 0; i < rows[r].tokens.size(); ++i) {
      tokens.push_back(rows[r].tokens[i]);
      positions.push_back(rows[r].num_cached + static_cast<int32_t>(i));
    }
    row_begin.push_back(static_cast<int32_t>(tokens.size()));
    context.push_back(rows[r].num_cached + static_cast<int32_t>(rows[r].tokens.size()));
    blocks.insert(blocks.end(), rows[r].blocks.begin(), rows[r].blocks.end());
    block_begin.push_back(static_cast<int32_t>(blocks.size()));
    slots.push_back(static_cast<int32_t>(r));
    if (rows[r].output) outputs.push_back(static_cast<int32_t>(r));
  }
  const BatchView batch = {static_cast<int32_t>(tokens.size()),
                           static_cast<int32_t>(rows.size()),
                           tokens.data(),
                           positions.data(),
                           row_begin.data(),
                           context.data(),
                           blocks.data(),
                           block_begin.data(),
                           slots.data(),
                           static_cast<int32_t>(outputs.size()),
                           outputs.data()};
  ops.BeginStep(batch);
  const Tensor logits = states ? transformer.ForwardToStates(batch) : transformer.Forward(batch);
  const auto cols = static_cast<size_t>(logits.cols);
  std::vector<float> values(outputs.size() * cols);
  if (!outputs.empty()) ops.Read(logits, values.data());
  const absl::Status status = ops.Finish();
  EXPECT_TRUE(status.ok()) << status;
  std::vector<std::vector<float>> out;
  for (size_t i = 0; i < outputs.size(); ++i)
    out.emplace_back(values.begin() + i * cols, values.begin() + (i + 1) * cols);
  return out;
}

}  // namespace sluice
