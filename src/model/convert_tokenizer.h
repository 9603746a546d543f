// The tokenizer of a converted file. Used by convert.cc and convert_metadata.cc only.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "sluice/model_info.h"

namespace sluice {

// GGUF's name for the way a byte-level tokenizer cuts words; empty where it has none. Given from
// outside: names and rules belong to tokenizer/, which model/ does not know.
using PreTokenizerNamer = std::function<std::string(const TokenizerData&)>;

// Keys that make a GGUF reader see this tokenizer, its template for chats and the tokens that end
// an answer. `source`: the folder, for messages. Errors: Unimplemented, with the reason, for what
// GGUF has no words for.
absl::Status WriteGgufTokenizer(const std::string& source, const ModelInfo& info,
                                const PreTokenizerNamer& name_of, GgufWriter& writer);

// Whether `file` gives the tokenizer that was written into it. Errors: Unimplemented, naming the
// part that GGUF could not carry.
absl::Status CheckSameTokenizer(const std::string& source, const TokenizerData& tokenizer,
                                const GgufFile& file);

}  // namespace sluice
