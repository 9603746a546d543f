// What `sluice model inspect FILE` prints.
#pragma once

#include <cstdint>
#include <string>

#include "model/model_file.h"

namespace sluice {

// Architecture, sizes, tensors by type, tokenizer, template and the memory a server with the given
// step size and f16 KV needs, as text for a terminal. Names and text from the file are escaped.
std::string InspectModel(const ModelFile& model, int32_t max_step_tokens, int32_t max_rows);

}  // namespace sluice
