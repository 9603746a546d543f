// The metadata of a converted file. Used by convert.cc only.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "kernels/view.h"
#include "model/convert_tokenizer.h"
#include "model/gguf_writer.h"
#include "model/model_file.h"

namespace sluice {

// Keys of a GGUF file as they are, but for what follows from the types of its tensors.
void CopyMetadata(const GgufFile& file, std::optional<DType> quantise, GgufWriter& writer);

// Keys that make a GGUF reader see what the folder says. Errors: those of WriteGgufTokenizer.
absl::Status WriteMetadata(const ModelFile& model, std::optional<DType> quantise,
                           const PreTokenizerNamer& name_of, GgufWriter& writer);

// Whether `read`, of the file just written, is the forward pass of `config`. Errors: Unimplemented,
// naming the number that GGUF could not carry.
absl::Status CheckSameConfig(const std::string& file, const ModelConfig& config,
                             const ModelConfig& read);

}  // namespace sluice
