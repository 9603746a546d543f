// config.json of a Hugging Face folder as the numbers of a forward pass.
#pragma once

#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "model/hf_json.h"
#include "model/hf_quantisation.h"
#include "model/model_config.h"
#include "model/rope_scaling.h"

namespace sluice {

struct HfConfig {
  ModelConfig config;
  std::optional<YarnScaling> yarn;  // what config.rope was stretched with
  std::string_view class_name;      // "LlamaForCausalLM"
  bool tied_head = false;           // lm_head is the embedding
  std::optional<HfQuantisation> quantisation;
  bool norms_from_one = false;  // the files hold w where the forward pass multiplies by 1 + w
  bool nested = false;          // the decoder is one part of a model for images and text
};

// Errors: Unimplemented for an architecture, scaling or activation that is not supported, by name
// with those that are; InvalidArgument for a key that is missing, of another type or out of range.
absl::StatusOr<HfConfig> ReadHfConfig(const HfObject& root);

}  // namespace sluice
