// What the rest of Sluice needs to know about a model: plain values, filled by model/ from a file.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sluice/tokenizer_data.h"
#include "sluice/types.h"

namespace sluice {

// The model's recommended sampling; identity where the file says nothing.
struct GenerationDefaults {
  float temperature = 1.0F;
  int32_t top_k = 0;
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;
};

// What a model's rows give: tokens, vectors, or how well a pair of texts fits. A model does one.
enum class ModelTask : uint8_t { kGenerate, kEmbed, kScore };

struct ModelInfo {
  std::string name;          // what /v1/models lists: the file's stem unless --served-model-name
  std::string architecture;  // "llama"
  std::string hash;          // XXH3-128 of the file's metadata and size, hex
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;  // tokens, prompt and output together
  std::vector<TokenId> eos_ids;
  std::string chat_template;  // Jinja; empty: the model has none
  TokenizerData tokenizer;
  GenerationDefaults generation;
  ModelTask task = ModelTask::kGenerate;
  int32_t vector_dim = 0;  // kEmbed: elements of a vector; kScore: labels
  bool normalise = true;   // kEmbed: vectors have length 1 unless the client asks otherwise
};

}  // namespace sluice
