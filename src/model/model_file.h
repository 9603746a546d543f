// A model's file or folder, opened and checked: what it says about itself, its forward pass and its
// weights. Immutable.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "model/encoder_views.h"
#include "model/gguf.h"
#include "model/hf_bert.h"
#include "model/hf_folder.h"
#include "model/model_config.h"
#include "model/weight_views.h"
#include "sluice/model_info.h"

namespace sluice {

struct EncoderFile {
  EncoderConfig config;
  EncoderViews weights;
};

struct ModelFile {
  // The views below point into the one of these three that is there.
  std::unique_ptr<GgufFile> gguf;
  std::unique_ptr<HfFolder> folder;
  std::unique_ptr<BertFolder> bert;
  ModelInfo info;  // info.name: the file's stem or the folder's name
  ModelConfig config;
  WeightViews weights;
  // Set: an encoder; `weights` is then empty, and of `config` only what describes a model is set.
  std::optional<EncoderFile> encoder;
  std::optional<Pooling> pooling;  // of a decoder whose file says that it is for vectors

  [[nodiscard]] const TensorTable& tensors() const {
    if (bert != nullptr) return bert->tensors();
    return gguf != nullptr ? gguf->tensors() : folder->tensors();
  }
  // Of the file, or of the folder's tensor files.
  [[nodiscard]] int64_t num_bytes() const {
    if (bert != nullptr) return bert->num_bytes();
    return gguf != nullptr ? gguf->num_bytes() : folder->num_bytes();
  }

  // Gives the pages of a weight back to the system, where it lies in a mapped file: it is read from
  // there again when needed.
  void ReleasePages(std::span<const uint8_t> weight) const {
    if (bert != nullptr) return bert->ReleasePages(weight);
    gguf != nullptr ? gguf->ReleasePages(weight) : folder->ReleasePages(weight);
  }

  // path: a GGUF file or a Hugging Face folder; keep_fp8: see HfFolder::Open. Errors: those of
  // GgufFile::Open and HfFolder::Open; InvalidArgument for keys or tensors that are missing, of the
  // wrong type or shape, or beyond a limit; Unimplemented for an architecture that is not
  // supported, with the list of those that are.
  static absl::StatusOr<ModelFile> Open(const std::string& path, bool keep_fp8 = false);
  static absl::StatusOr<ModelFile> FromGguf(std::unique_ptr<GgufFile> gguf);
};

}  // namespace sluice
