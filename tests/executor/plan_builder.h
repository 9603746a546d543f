// Plans written by hand: rows with tokens, cached counts and KV blocks, for tests that drive an
// executor without a scheduler.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "step/batch_plan.h"

namespace sluice {

class PlanBuilder {
 public:
  explicit PlanBuilder(StepId step) {
    plan_.step = step;
    plan_.row_begin = {0};
    plan_.block_begin = {0};
  }

  // `tokens` on top of num_cached ones; `blocks` is the row's whole table.
  PlanBuilder& AddRow(const Row& row, const std::vector<TokenId>& tokens, int32_t num_cached,
                      const std::vector<BlockId>& blocks) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      plan_.tokens.push_back(tokens[i]);
      plan_.positions.push_back(num_cached + static_cast<int32_t>(i));
    }
    plan_.row_begin.push_back(plan_.num_tokens());
    plan_.context_len.push_back(num_cached + static_cast<int32_t>(tokens.size()));
    plan_.blocks.insert(plan_.blocks.end(), blocks.begin(), blocks.end());
    plan_.block_begin.push_back(static_cast<int32_t>(plan_.blocks.size()));
    plan_.rows.push_back(row);
    return *this;
  }

  PlanBuilder& InitGreedySlot(int32_t slot) {
    auto sampling = std::make_shared<SamplingParams>();
    sampling->temperature = 0;
    plan_.slot_inits.push_back({.slot = slot, .sampling = std::move(sampling)});
    return *this;
  }

  [[nodiscard]] BatchPlan Take() { return std::move(plan_); }

 private:
  BatchPlan plan_;
};

// The first blocks of a sequence that owns the blocks [first, ...), enough for num_tokens.
inline std::vector<BlockId> BlocksFor(BlockId first, int32_t num_tokens, int32_t block_tokens) {
  std::vector<BlockId> blocks;
  for (int32_t i = 0; i < (num_tokens + block_tokens - 1) / block_tokens; ++i)
    blocks.push_back(first + i);
  return blocks;
}

}  // namespace sluice
