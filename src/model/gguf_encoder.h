// An encoder's numbers from the metadata and tensors of a GGUF file of architecture "bert".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "model/encoder_views.h"
#include "model/gguf.h"

namespace sluice {

// How GGUF numbers poolings, under "ARCHITECTURE.pooling_type".
enum class GgufPooling : uint8_t { kNone = 0, kMean = 1, kCls = 2, kLast = 3, kRank = 4 };

// Our own keys, for what GGUF has no word for and other readers may ignore: vectors are left as
// they are pooled; texts are no longer than so many tokens.
inline constexpr std::string_view kNormaliseKey = "sluice.embeddings_normalised";
inline constexpr std::string_view kMaxModelLenKey = "sluice.max_model_len";

// What the file says of a decoder: nothing, or that it gives vectors, and how. Errors:
// Unimplemented for a decoder that ranks.
absl::StatusOr<std::optional<Pooling>> ReadGgufPooling(const GgufFile& file,
                                                       std::string_view architecture);

struct GgufEncoder {
  EncoderConfig config;
  int32_t max_model_len = 0;
};

// Whether the file's architecture is an encoder's.
[[nodiscard]] bool IsGgufEncoder(const GgufFile& file);

// Errors: InvalidArgument for keys or tensors that are missing or out of range; Unimplemented for a
// pooling that is not supported.
absl::StatusOr<GgufEncoder> ReadGgufEncoder(const GgufFile& file);

}  // namespace sluice
