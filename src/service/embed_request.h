// The one place where a request for vectors or scores is checked and tokenized.
#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "engine/pooled_call.h"
#include "sluice/model_info.h"
#include "sluice/types.h"
#include "tokenizer/tokenizer.h"

namespace sluice {

inline constexpr size_t kMaxEmbedInputs = 2048;

// Errors: InvalidArgument with the field as ErrorParam ("model", "input", "dimensions",
// "truncate_prompt_tokens"), for a model that makes no such thing, too many inputs, an input
// without tokens, or one that is too long and not to be cut (context_length_exceeded).
absl::StatusOr<PooledWork> BuildPooledWork(const EmbedRequest& request, const ModelInfo& model,
                                           const Tokenizer& tokenizer);

// Errors: InvalidArgument for a model that makes vectors or scores.
absl::Status CheckGenerates(const ModelInfo& model);

}  // namespace sluice
