// The numbers of a model's forward pass.
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

struct ModelConfig {
  std::string architecture;  // "llama"
  int32_t model_dim = 0;     // D
  int32_t ffn_dim = 0;       // F
  int32_t vocab_size = 0;    // V
  int32_t num_layers = 0;    // L
  int32_t num_q_heads = 0;   // Hq, a multiple of num_kv_heads
  int32_t num_kv_heads = 0;  // Hkv
  int32_t head_dim = 0;      // H, even
  int32_t max_context = 0;   // positions the model was trained for
  float norm_eps = 0;
  float attention_scale = 0;  // of q . k; 1/sqrt(H) unless the file says otherwise
  double rope_theta = 0;
  double rope_position_scale = 1;  // linear scaling: positions are multiplied by it
  int32_t rope_dim = 0;            // leading elements of a head that rotate; even, <= head_dim
  bool rope_interleaved = false;   // pairs (2i, 2i+1): how GGUF stores llama's q and k

  [[nodiscard]] int32_t q_cols() const { return num_q_heads * head_dim; }
  [[nodiscard]] int32_t kv_cols() const { return num_kv_heads * head_dim; }
  [[nodiscard]] int32_t qkv_cols() const { return q_cols() + 2 * kv_cols(); }
};

}  // namespace sluice
