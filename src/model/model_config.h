// The numbers of a model's forward pass. Families differ in these and in which weights are there,
// never in code that asks for a family's name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace sluice {

// Rotary positions. Every kind of scaling comes down to these numbers: rope_scaling.h makes them.
struct RopeConfig {
  double theta = 10000;
  int32_t dim = 0;           // leading elements of a head that rotate; even, <= head_dim
  bool interleaved = false;  // pairs (2i, 2i+1): how GGUF stores llama's q and k; else (i, i+dim/2)
  double position_scale = 1;    // linear scaling: positions are multiplied by it
  double magnitude = 1;         // cos and sin are multiplied by it (yarn, longrope)
  std::vector<float> divisors;  // [dim/2] of the rotation frequencies; empty: ones
  // longrope: a model run with more than original_context positions uses these instead.
  std::vector<float> long_divisors;
  int32_t original_context = 0;
};

// A mixture of experts in place of the FFN, in the layers that have a router.
struct MoeConfig {
  int32_t num_experts = 0;     // E; 0: a dense model
  int32_t num_used = 0;        // experts a token chooses
  int32_t ffn_dim = 0;         // of an expert
  int32_t shared_ffn_dim = 0;  // of the expert that every token takes; 0: none
  bool renormalise = false;    // the chosen experts' weights sum to 1; else softmax over all E
};

struct ModelConfig {
  std::string architecture;  // GGUF's name for the family, for people; no code depends on it
  int32_t model_dim = 0;     // D
  int32_t ffn_dim = 0;       // F
  int32_t vocab_size = 0;    // V
  int32_t num_layers = 0;    // L
  int32_t num_q_heads = 0;   // Hq, a multiple of num_kv_heads
  int32_t num_kv_heads = 0;  // Hkv
  int32_t head_dim = 0;      // H, even
  int32_t max_context = 0;   // positions the model was trained for
  float norm_eps = 0;
  float embedding_scale = 1;    // Gemma: sqrt(D)
  float attention_scale = 0;    // of q . k; 1/sqrt(H) unless the file says otherwise
  float attention_softcap = 0;  // scores become cap * tanh(score / cap); 0: none
  float final_softcap = 0;      // the same for logits
  Activation activation = Activation::kSilu;
  RopeConfig rope;
  std::optional<RopeConfig> window_rope;  // of the layers with a window, if they have their own
  // [L] tokens, itself included, that a layer's query sees; 0: all. Empty: all, in every layer.
  std::vector<int32_t> windows;
  MoeConfig moe;

  [[nodiscard]] int32_t q_cols() const { return num_q_heads * head_dim; }
  [[nodiscard]] int32_t kv_cols() const { return num_kv_heads * head_dim; }
  [[nodiscard]] int32_t qkv_cols() const { return q_cols() + 2 * kv_cols(); }
  [[nodiscard]] int32_t window(int32_t layer) const {
    return windows.empty() ? 0 : windows[static_cast<size_t>(layer)];
  }
};

}  // namespace sluice
