// A slot's sampling state as the kernels see it: plain data, owned by SamplingSlots. Included by
// the files compiled for each form.
#pragma once

#include <cstdint>
#include <utility>

namespace sluice::cpu {

struct SamplingSlot {
  float temperature = 1, top_p = 1, min_p = 0;
  int32_t top_k = 0;  // 0: off
  float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0;
  uint32_t choice = 0;
  int32_t min_tokens = 0;
  int32_t num_logprobs = -1;
  // All ids below are in [0, vocab_size).
  const int32_t* stop_tokens = nullptr;
  int32_t num_stop_tokens = 0;
  const std::pair<int32_t, float>* bias = nullptr;
  int32_t num_bias = 0;
  bool penalties = false;
  uint32_t* counts =
      nullptr;  // [V] 2 * times in the output + (1 if in prompt or output); with penalties only
  int32_t* seen = nullptr;  // the tokens with counts[v] != 0, each once
  int32_t num_seen = 0;
  int32_t* last_token = nullptr;
};

// Applies bias, penalties and the min_tokens mask to one row of logits. What cannot be sampled
// becomes -infinity; the logits it touches become finite otherwise.
void AdjustLogits(const SamplingSlot& slot, int32_t num_output_tokens, float* logits);
// Records the sampled token.
void AcceptToken(SamplingSlot& slot, int32_t token);
// The lowest id that the min_tokens mask allows, 0 if it allows none: what is sampled from a row
// without one finite logit.
int32_t FirstAllowedToken(const SamplingSlot& slot, int32_t num_output_tokens, int32_t vocab_size);

}  // namespace sluice::cpu
