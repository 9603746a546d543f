// The tokenizer of a Hugging Face folder: tokenizer.json, with the special tokens that
// tokenizer_config.json names.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "sluice/model_info.h"

namespace sluice {

// vocab_size: the rows of the model's embedding; ids that tokenizer.json leaves out below it are
// unused tokens. Errors: NotFound without a tokenizer.json; InvalidArgument for JSON that is
// broken, of another shape or beyond a limit; Unimplemented, with its name, for a part that is not
// supported.
absl::StatusOr<TokenizerData> ReadHfTokenizer(const std::string& folder, int32_t vocab_size);

}  // namespace sluice
