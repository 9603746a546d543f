#include "model/gguf_rope.h"

#include <fmt/format.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "base/status_macros.h"
#include "model/model_limits.h"
#include "model/rope_scaling.h"

namespace sluice {
namespace {

// [dim/2] F32 values, or none if the file lacks the tensor.
absl::StatusOr<std::vector<float>> ReadDivisors(const GgufFile& file, std::string_view name,
                                                int32_t rope_dim) {
  const ModelTensor* tensor = file.tensors().Find(name);
  if (tensor == nullptr) return std::vector<float>{};
  if (tensor->num_dims != 1 || tensor->dims[0] != rope_dim / 2) {
    return absl::InvalidArgumentError(
        fmt::format("{}: tensor '{}' has shape {}; the metadata asks for [{}]", file.name(), name,
                    tensor->ShapeString(), rope_dim / 2));
  }
  if (tensor->dtype != DType::kF32) {
    return absl::InvalidArgumentError(fmt::format("{}: tensor '{}' has type {}; F32 is needed",
                                                  file.name(), name,
                                                  GetDTypeInfo(tensor->dtype).name));
  }
  std::vector<float> divisors(static_cast<size_t>(tensor->dims[0]));
  std::memcpy(divisors.data(), tensor->data, divisors.size() * sizeof(float));
  for (size_t i = 0; i < divisors.size(); ++i) {
    if (divisors[i] >= 1e-6F && divisors[i] <= 1e6F) continue;  // false for NaN
    return absl::InvalidArgumentError(
        fmt::format("{}: tensor '{}' has {} at element {}; must be in [1e-6, 1e6]", file.name(),
                    name, divisors[i], i));
  }
  return divisors;
}

absl::Status ReadLongRope(const GgufFile& file, const std::string& prefix, int32_t max_context,
                          RopeConfig& rope) {
  ASSIGN_OR_RETURN(rope.divisors, ReadDivisors(file, "rope_factors_short.weight", rope.dim));
  ASSIGN_OR_RETURN(rope.long_divisors, ReadDivisors(file, "rope_factors_long.weight", rope.dim));
  if (rope.divisors.empty() != rope.long_divisors.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: one of the tensors 'rope_factors_short.weight' and "
                    "'rope_factors_long.weight' is missing",
                    file.name()));
  }
  if (rope.divisors.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t original,
                   file.GetInt(prefix + "rope.scaling.original_context_length", 2, kMaxContext));
  rope.original_context = static_cast<int32_t>(original);
  ASSIGN_OR_RETURN(rope.magnitude,
                   file.GetFloatOr(prefix + "rope.scaling.attn_factor", 1e-3, 1e3,
                                   LongRopeMagnitude(max_context, rope.original_context)));
  return absl::OkStatus();
}

absl::Status ReadYarn(const GgufFile& file, const std::string& prefix, int32_t max_context,
                      RopeConfig& rope) {
  if (rope.theta < 2) {
    return file.KeyError(prefix + "rope.freq_base",
                         fmt::format("is {}; yarn needs at least 2", rope.theta));
  }
  YarnScaling yarn;
  ASSIGN_OR_RETURN(yarn.factor, file.GetFloat(prefix + "rope.scaling.factor", 1, 1e6));
  ASSIGN_OR_RETURN(yarn.beta_fast,
                   file.GetFloatOr(prefix + "rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32));
  ASSIGN_OR_RETURN(yarn.beta_slow,
                   file.GetFloatOr(prefix + "rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1));
  ASSIGN_OR_RETURN(
      const int64_t original,
      file.GetIntOr(prefix + "rope.scaling.original_context_length", 2, kMaxContext, max_context));
  yarn.original_context = static_cast<int32_t>(original);
  ScaleYarn(yarn, rope);
  // GGUF's factor comes on top of the paper's.
  ASSIGN_OR_RETURN(const double factor,
                   file.GetFloatOr(prefix + "rope.scaling.attn_factor", 1e-3, 1e3, 1));
  rope.magnitude *= factor;
  return absl::OkStatus();
}

absl::Status ReadScaling(const GgufFile& file, const std::string& prefix, int32_t max_context,
                         RopeConfig& rope) {
  const std::string type_key = prefix + "rope.scaling.type";
  ASSIGN_OR_RETURN(const std::string_view type, file.GetStringOr(type_key, "none"));
  if (type == "yarn") return ReadYarn(file, prefix, max_context, rope);
  if (type == "linear") {
    ASSIGN_OR_RETURN(const double factor, file.GetFloat(prefix + "rope.scaling.factor", 1e-3, 1e6));
    ScaleLinear(factor, rope);
  } else if (type != "none" && type != "longrope") {
    return absl::UnimplementedError(
        fmt::format("{}: key '{}' is '{}'; supported: none, linear, yarn, longrope", file.name(),
                    type_key, QuoteForMessage(type)));
  }
  // Files with these tensors do not always say so in the key.
  RETURN_IF_ERROR(ReadLongRope(file, prefix, max_context, rope));
  if (!rope.divisors.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(rope.divisors, ReadDivisors(file, "rope_freqs.weight", rope.dim));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadGgufRope(const GgufFile& file, const std::string& prefix,
                          const GgufRopeFamily& family, ModelConfig& c) {
  RopeConfig rope;
  const std::string dim_key = prefix + "rope.dimension_count";
  ASSIGN_OR_RETURN(const int64_t dim, file.GetIntOr(dim_key, 2, c.head_dim, c.head_dim));
  if (dim % 2 != 0) return file.KeyError(dim_key, fmt::format("is {}; must be even", dim));
  rope.dim = static_cast<int32_t>(dim);
  rope.interleaved = family.interleaved;
  ASSIGN_OR_RETURN(rope.theta, file.GetFloatOr(prefix + "rope.freq_base", 1, 1e12, 10000));
  RopeConfig window_rope = rope;
  RETURN_IF_ERROR(ReadScaling(file, prefix, c.max_context, rope));
  c.rope = rope;
  if (family.window_theta > 0 && !c.windows.empty()) {
    ASSIGN_OR_RETURN(window_rope.theta,
                     file.GetFloatOr(prefix + "rope.freq_base_swa", 1, 1e12, family.window_theta));
    c.window_rope = window_rope;
  }
  return absl::OkStatus();
}

}  // namespace sluice
