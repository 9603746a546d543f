// The tokenizer that a GGUF file's metadata describes, spelled out into stages.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "model/gguf.h"
#include "sluice/tokenizer_data.h"

namespace sluice {

// Errors: InvalidArgument for keys that are missing, of the wrong type or beyond a limit.
absl::StatusOr<TokenizerData> ReadGgufTokenizer(const GgufFile& file, int32_t vocab_size);

// One id; -1 for a missing key. Errors: InvalidArgument beyond [0, vocab_size).
absl::StatusOr<TokenId> ReadGgufTokenId(const GgufFile& file, std::string_view key,
                                        int32_t vocab_size);

}  // namespace sluice
