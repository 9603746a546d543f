// A model of either format as one GGUF file.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "kernels/view.h"
#include "model/convert_tokenizer.h"
#include "model/model_file.h"

namespace sluice {

struct ConvertOptions {
  // As LoadOptions::quantise; an embedding that is also the head becomes Q8_0, like a head.
  std::optional<DType> quantise;
  int32_t threads = 1;
  PreTokenizerNamer pre_tokenizer_name;  // needed for folders with byte-level BPE
  std::function<void(int64_t done, int64_t all)> progress;  // bytes of tensors written
};

// Writes `path`. Tensors whose type stays keep their bytes, but for the rows of q and k of a llama
// folder, which GGUF wants with rotating pairs side by side; experts are stored together. The new
// file is read back before it gets its name: one that would compute something else than the model
// is refused. Memory: a few MiB, whatever the model's size. Errors: Unimplemented for what GGUF
// cannot say; what the system says of the file.
absl::Status ConvertToGguf(const ModelFile& model, const std::string& path,
                           const ConvertOptions& options);

}  // namespace sluice
