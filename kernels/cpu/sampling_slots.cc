#include "kernels/cpu/sampling_slots.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace sluice::cpu {
namespace {

constexpr float kLargest = std::numeric_limits<float>::max();

// NaN and infinities become the nearest float that arithmetic survives.
float Finite(float x) {
  if (!(x > -kLargest)) return -kLargest;
  return std::min(x, kLargest);
}

void Count(SamplingSlot& slot, int32_t token, bool output) {
  uint32_t& count = slot.counts[token];
  if (count == 0) slot.seen[slot.num_seen++] = token;
  count = (count | 1) + (output ? 2 : 0);
}

bool Masked(const SamplingSlot& slot, int32_t num_output_tokens) {
  return num_output_tokens < slot.min_tokens;
}

}  // namespace

absl::Status SamplingSlots::Allocate(int32_t max_rows, int32_t vocab_size) {
  if (max_rows <= 0 || vocab_size <= 0 || vocab_size > kMaxVocab) {
    return absl::InvalidArgumentError(
        fmt::format("cannot sample {} rows over {} tokens; the CPU backend needs at least one row "
                    "and 1 to {} tokens",
                    max_rows, vocab_size, kMaxVocab));
  }
  const auto elements = static_cast<size_t>(max_rows) * static_cast<size_t>(vocab_size);
  counts_.reset(static_cast<uint32_t*>(std::calloc(elements, sizeof(uint32_t))));
  seen_.reset(static_cast<int32_t*>(std::calloc(elements, sizeof(int32_t))));
  if (counts_ == nullptr || seen_ == nullptr) {
    return absl::ResourceExhaustedError(fmt::format(
        "no memory for the penalty counts of {} rows over {} tokens", max_rows, vocab_size));
  }
  vocab_size_ = vocab_size;
  const auto rows = static_cast<size_t>(max_rows);
  slots_.assign(rows, SamplingSlot());
  owned_.resize(rows);
  last_tokens_.assign(rows, 0);
  for (size_t i = 0; i < rows; ++i) {
    slots_[i].counts = counts_.get() + i * static_cast<size_t>(vocab_size);
    slots_[i].seen = seen_.get() + i * static_cast<size_t>(vocab_size);
    slots_[i].last_token = &last_tokens_[i];
  }
  return absl::OkStatus();
}

absl::Status SamplingSlots::Init(const SlotView& view) {
  if (view.slot < 0 || view.slot >= num_slots()) {
    return absl::OutOfRangeError(fmt::format("slot is {}; there are {}", view.slot, num_slots()));
  }
  const auto index = static_cast<size_t>(view.slot);
  SamplingSlot& slot = slots_[index];
  Owned& owned = owned_[index];
  const auto valid = [this](int32_t token) { return token >= 0 && token < vocab_size_; };

  owned.stop_tokens.clear();
  std::copy_if(view.stop_tokens, view.stop_tokens + view.num_stop_tokens,
               std::back_inserter(owned.stop_tokens), valid);
  owned.bias.clear();
  std::copy_if(view.bias, view.bias + view.num_bias, std::back_inserter(owned.bias),
               [&valid](const std::pair<int32_t, float>& entry) { return valid(entry.first); });

  slot.temperature = view.temperature;
  slot.top_p = view.top_p;
  slot.min_p = view.min_p;
  slot.top_k = view.top_k;
  slot.repetition_penalty = view.repetition_penalty;
  slot.presence_penalty = view.presence_penalty;
  slot.frequency_penalty = view.frequency_penalty;
  slot.seed = view.seed;
  slot.choice = view.choice;
  slot.min_tokens = view.min_tokens;
  slot.num_logprobs = view.num_logprobs;
  slot.stop_tokens = owned.stop_tokens.data();
  slot.num_stop_tokens = static_cast<int32_t>(owned.stop_tokens.size());
  slot.bias = owned.bias.data();
  slot.num_bias = static_cast<int32_t>(owned.bias.size());
  slot.penalties =
      view.repetition_penalty != 1 || view.presence_penalty != 0 || view.frequency_penalty != 0;

  for (int32_t i = 0; i < slot.num_seen; ++i) slot.counts[slot.seen[i]] = 0;
  slot.num_seen = 0;
  if (slot.penalties) {
    for (int32_t i = 0; i < view.num_prompt_tokens; ++i) {
      if (valid(view.prompt_tokens[i])) Count(slot, view.prompt_tokens[i], false);
    }
    for (int32_t i = 0; i < view.num_output_tokens; ++i) {
      if (valid(view.output_tokens[i])) Count(slot, view.output_tokens[i], true);
    }
  }
  if (view.num_output_tokens > 0) {
    const int32_t last = view.output_tokens[view.num_output_tokens - 1];
    if (valid(last)) *slot.last_token = last;
  }
  return absl::OkStatus();
}

void AdjustLogits(const SamplingSlot& slot, int32_t num_output_tokens, float* logits) {
  for (int32_t i = 0; i < slot.num_bias; ++i) {
    float& logit = logits[slot.bias[i].first];
    logit = Finite(Finite(logit) + slot.bias[i].second);
  }
  for (int32_t i = 0; slot.penalties && i < slot.num_seen; ++i) {
    const int32_t token = slot.seen[i];
    const float x = Finite(logits[token]);
    const float repeated = x > 0 ? x / slot.repetition_penalty : x * slot.repetition_penalty;
    const auto times = static_cast<float>(slot.counts[token] >> 1);
    const float presence = times > 0 ? slot.presence_penalty : 0;
    logits[token] = Finite(repeated - (slot.frequency_penalty * times + presence));
  }
  for (int32_t i = 0; Masked(slot, num_output_tokens) && i < slot.num_stop_tokens; ++i) {
    logits[slot.stop_tokens[i]] = -std::numeric_limits<float>::infinity();
  }
}

void AcceptToken(SamplingSlot& slot, int32_t token) {
  *slot.last_token = token;
  if (slot.penalties) Count(slot, token, true);
}

int32_t FirstAllowedToken(const SamplingSlot& slot, int32_t num_output_tokens, int32_t vocab_size) {
  if (!Masked(slot, num_output_tokens)) return 0;
  const int32_t* end = slot.stop_tokens + slot.num_stop_tokens;
  for (int32_t token = 0; token < vocab_size; ++token) {
    if (std::find(slot.stop_tokens, end, token) == end) return token;
  }
  return 0;
}

}  // namespace sluice::cpu
