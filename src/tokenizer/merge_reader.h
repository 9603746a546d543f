// The merges of a BPE model, from whichever of its data says them.
#pragma once

#include "absl/status/statusor.h"
#include "sluice/tokenizer_data.h"
#include "tokenizer/data_check.h"
#include "tokenizer/merge_table.h"

namespace sluice {

// From data.merges ("left right") or data.merge_pairs. Errors: InvalidArgument for a merge whose
// parts or result are no text tokens, or that repeats one.
absl::StatusOr<MergeTable> ReadMerges(const TokenizerData& data, const TokenIds& ids);

// For a SentencePiece vocabulary, which has scores instead: every way of cutting a text token into
// two is a merge, those with higher scores first, of equal scores those with the longer left part,
// as Hugging Face's converter orders them.
MergeTable MergesFromScores(const TokenizerData& data, const TokenIds& ids);

}  // namespace sluice
