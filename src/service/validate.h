// The one place where a client's sampling options are checked and the defaults filled in.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "sluice/model_info.h"
#include "sluice/types.h"

namespace sluice {

inline constexpr int64_t kMaxChoices = 128;
inline constexpr int64_t kMaxTopLogprobs = 20;
inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopBytes = 1024;  // of one stop string

// Errors: InvalidArgument with the field as ErrorParam, saying which value and what the limit is.
// The seed of the result is the client's or `drawn_seed`.
absl::StatusOr<SamplingParams> ResolveSampling(const SamplingOptions& options,
                                               const ModelInfo& model, uint64_t drawn_seed);

// Output tokens a choice may have. Errors: InvalidArgument, context_length_exceeded.
absl::StatusOr<int32_t> ResolveMaxOutputTokens(const GenerateRequest& request,
                                               const ModelInfo& model, int64_t num_prompt_tokens);

}  // namespace sluice
