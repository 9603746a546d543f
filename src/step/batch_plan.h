// What one step computes: the only thing the scheduler says to an executor. An immutable value,
// flat and ragged: T new tokens in R rows. A row is "n new tokens on top of c cached tokens";
// nothing here knows prefill from decode.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "sluice/types.h"

namespace sluice {

using SequenceId = uint64_t;
using StepId = uint64_t;  // ascending from 1
using BlockId = int32_t;  // index of a KV block of the pool, [0, num_kv_blocks)

// In `tokens`: "the token last sampled in this row's slot", for rows planned before their last
// token is known here.
inline constexpr TokenId kTokenFromSlot = -1;

// kPooled: a vector for the whole sequence, whose last token is in this row.
enum class RowOutput : uint8_t { kNone, kSample, kPooled };

// What a row's slot must hold before the step: sent when a sequence gets its slot (admission, or
// after preemption).
struct SlotInit {
  int32_t slot = 0;
  std::shared_ptr<const SamplingParams>
      sampling;         // owners: the sequence and the plans in flight that name it
  uint32_t choice = 0;  // Philox key, with sampling->seed
  // Everything in the sequence so far, for penalties; empty where sampling does not use them.
  std::vector<TokenId> prompt_tokens, output_tokens;
};

struct Row {
  SequenceId sequence = 0;
  int32_t slot =
      0;  // dense, [0, max_rows): where the executor keeps last token, penalty counts, sampling
  RowOutput output = RowOutput::kNone;
  int32_t num_output_tokens =
      0;  // output tokens before this step's: the RNG position and the min_tokens test
  int32_t second_begin = 0;  // position of the second text of a pair; 0: there is none
  int32_t adapter = -1;      // of the model's low-rank adapters; -1: none
};

struct BatchPlan {
  StepId step = 0;
  std::vector<TokenId> tokens;     // [T]
  std::vector<int32_t> positions;  // [T] absolute
  std::vector<int32_t>
      row_begin;  // [R+1] into tokens; row r has tokens [row_begin[r], row_begin[r+1])
  std::vector<int32_t> context_len;  // [R] tokens attended over after this step: cached + new
  std::vector<BlockId> blocks;       // the rows' block tables, one after the other
  // [R+1] into blocks; row r has ceil(context_len[r] / kv_block_tokens) of them, or none at all
  // where a model keeps no KV.
  std::vector<int32_t> block_begin;
  std::vector<Row> rows;             // [R]
  std::vector<SlotInit> slot_inits;  // done before the step

  [[nodiscard]] int32_t num_rows() const { return static_cast<int32_t>(rows.size()); }
  [[nodiscard]] int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  [[nodiscard]] bool empty() const { return rows.empty(); }
};

}  // namespace sluice
