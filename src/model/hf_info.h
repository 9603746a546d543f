// What the small JSON files of a Hugging Face folder say besides the forward pass.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/hf_json.h"
#include "sluice/model_info.h"

namespace sluice {

// temperature, top_k, top_p, min_p and repetition_penalty of generation_config.json.
absl::StatusOr<GenerationDefaults> ReadHfGeneration(const HfObject& root);

// A key that holds one token id or a list of them; none for a missing key. Ids are in [0,
// vocab_size).
absl::StatusOr<std::vector<TokenId>> ReadHfTokenIds(const HfObject& root, std::string_view key,
                                                    int32_t vocab_size);

// chat_template.jinja of the folder if there is one, else chat_template of tokenizer_config.json
// (`config`; may be missing): a string, or a list of named ones of which "default" counts. Empty:
// none.
absl::StatusOr<std::string> ReadHfChatTemplate(const std::string& folder,
                                               const std::optional<HfObject>& config);

}  // namespace sluice
