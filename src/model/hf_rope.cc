#include "model/hf_rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <vector>

#include "base/status_macros.h"
#include "model/model_limits.h"
#include "model/rope_scaling.h"
#include "model/tensor_table.h"

namespace sluice {
namespace {

constexpr double kMaxFactor = 1e6;

absl::StatusOr<int32_t> OriginalContext(const HfObject& root, const HfObject& scaling,
                                        int32_t otherwise) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  const HfObject& at = scaling.Has(kKey) ? scaling : root;
  ASSIGN_OR_RETURN(const int64_t original, at.GetIntOr(kKey, 2, kMaxContext, otherwise));
  return static_cast<int32_t>(original);
}

absl::Status ReadLlama3(const HfObject& root, const HfObject& scaling, const ModelConfig& c,
                        RopeConfig& rope) {
  Llama3Scaling s;
  ASSIGN_OR_RETURN(s.factor, scaling.GetFloat("factor", 1, kMaxFactor));
  ASSIGN_OR_RETURN(s.low_freq_factor, scaling.GetFloat("low_freq_factor", 1e-3, kMaxFactor));
  ASSIGN_OR_RETURN(s.high_freq_factor, scaling.GetFloat("high_freq_factor", 1e-3, kMaxFactor));
  if (s.high_freq_factor <= s.low_freq_factor) {
    return scaling.KeyError("high_freq_factor",
                            fmt::format("is {}; must be above low_freq_factor, {}",
                                        s.high_freq_factor, s.low_freq_factor));
  }
  ASSIGN_OR_RETURN(s.original_context, OriginalContext(root, scaling, c.max_context));
  ScaleLlama3(s, rope);
  return absl::OkStatus();
}

// What the paper calls the attention temperature, with DeepSeek's two weights of it.
double YarnMagnitude(double factor, double weight) {
  return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1;
}

absl::Status ReadYarn(const HfObject& root, const HfObject& scaling, HfConfig& config,
                      RopeConfig& rope) {
  ModelConfig& c = config.config;
  if (rope.theta < 2) return root.KeyError("rope_theta", "is below 2, which yarn cannot scale");
  ASSIGN_OR_RETURN(const bool truncate, scaling.GetBoolOr("truncate", true));
  if (!truncate) return scaling.Unsupported("truncate", "is false; only true is supported");
  YarnScaling s;
  ASSIGN_OR_RETURN(s.factor, scaling.GetFloat("factor", 1, kMaxFactor));
  ASSIGN_OR_RETURN(s.beta_fast, scaling.GetFloatOr("beta_fast", 1e-3, kMaxFactor, 32));
  ASSIGN_OR_RETURN(s.beta_slow, scaling.GetFloatOr("beta_slow", 1e-3, kMaxFactor, 1));
  ASSIGN_OR_RETURN(const double weight, scaling.GetFloatOr("mscale", 0, 1e3, 0));
  ASSIGN_OR_RETURN(const double weight_all, scaling.GetFloatOr("mscale_all_dim", 0, 1e3, 0));
  const double by_weights = weight > 0 && weight_all > 0 ? YarnMagnitude(s.factor, weight) /
                                                               YarnMagnitude(s.factor, weight_all)
                                                         : 0;
  ASSIGN_OR_RETURN(s.attention_factor,
                   scaling.GetFloatOr("attention_factor", 1e-3, 1e3, by_weights));
  ASSIGN_OR_RETURN(s.original_context, OriginalContext(root, scaling, c.max_context));
  ScaleYarn(s, rope);
  config.yarn = s;
  const double stretched =
      std::min(s.factor * s.original_context, static_cast<double>(kMaxContext));
  c.max_context = std::max(c.max_context, static_cast<int32_t>(stretched));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> ReadDivisors(const HfObject& scaling, std::string_view key,
                                                int32_t rope_dim) {
  const auto wanted = static_cast<size_t>(rope_dim / 2);
  ASSIGN_OR_RETURN(const std::vector<double> values, scaling.GetFloats(key, 1e-6, 1e6, wanted));
  if (values.size() != wanted) {
    return scaling.KeyError(key, fmt::format("has {} numbers; a rotation of {} elements needs {}",
                                             values.size(), rope_dim, wanted));
  }
  std::vector<float> divisors;
  divisors.reserve(values.size());
  for (const double value : values) divisors.push_back(static_cast<float>(value));
  return divisors;
}

absl::Status ReadLongRope(const HfObject& root, const HfObject& scaling, const ModelConfig& c,
                          RopeConfig& rope) {
  ASSIGN_OR_RETURN(rope.divisors, ReadDivisors(scaling, "short_factor", rope.dim));
  ASSIGN_OR_RETURN(rope.long_divisors, ReadDivisors(scaling, "long_factor", rope.dim));
  ASSIGN_OR_RETURN(rope.original_context, OriginalContext(root, scaling, c.max_context));
  ASSIGN_OR_RETURN(rope.magnitude,
                   scaling.GetFloatOr("attention_factor", 1e-3, 1e3,
                                      LongRopeMagnitude(c.max_context, rope.original_context)));
  return absl::OkStatus();
}

absl::Status ReadScaling(const HfObject& root, const HfObject& scaling, HfConfig& config,
                         RopeConfig& rope) {
  const ModelConfig& c = config.config;
  const std::string_view type_key = scaling.Has("rope_type") ? "rope_type" : "type";
  ASSIGN_OR_RETURN(const std::string_view type, scaling.GetStringOr(type_key, "default"));
  if (type == "default") return absl::OkStatus();
  if (type == "llama3") return ReadLlama3(root, scaling, c, rope);
  if (type == "yarn") return ReadYarn(root, scaling, config, rope);
  if (type == "longrope" || type == "su") return ReadLongRope(root, scaling, c, rope);
  if (type == "linear") {
    ASSIGN_OR_RETURN(const double factor, scaling.GetFloat("factor", 1e-3, kMaxFactor));
    ScaleLinear(factor, rope);
    return absl::OkStatus();
  }
  return scaling.Unsupported(
      type_key, fmt::format("is '{}'; supported: default, linear, llama3, yarn, longrope",
                            QuoteForMessage(type)));
}

// The rotation of the layers that `parameters` (rope_scaling or rope_parameters; may be missing)
// speaks of. In transformers 5 the base and the rotating share of a head stand there too.
absl::StatusOr<RopeConfig> ReadOne(const HfObject& root, const std::optional<HfObject>& parameters,
                                   std::string_view theta_key, double theta, HfConfig& config) {
  RopeConfig rope;
  const bool inside = parameters.has_value() && parameters->Has("rope_theta");
  ASSIGN_OR_RETURN(rope.theta, inside ? parameters->GetFloat("rope_theta", 1, 1e12)
                                      : root.GetFloatOr(theta_key, 1, 1e12, theta));
  constexpr std::string_view kShare = "partial_rotary_factor";
  const bool share_inside = parameters.has_value() && parameters->Has(kShare);
  ASSIGN_OR_RETURN(const double share, share_inside ? parameters->GetFloat(kShare, 1e-3, 1)
                                                    : root.GetFloatOr(kShare, 1e-3, 1, 1));
  rope.dim = static_cast<int32_t>(config.config.head_dim * share);
  if (rope.dim < 2 || rope.dim % 2 != 0) {
    return root.KeyError(kShare, fmt::format("is {}, which rotates {} elements of a head; "
                                             "their number must be even and above 0",
                                             share, rope.dim));
  }
  if (parameters.has_value()) RETURN_IF_ERROR(ReadScaling(root, *parameters, config, rope));
  return rope;
}

absl::StatusOr<std::optional<HfObject>> ObjectOrNone(const HfObject& at, std::string_view key) {
  if (!at.Has(key)) return std::nullopt;
  ASSIGN_OR_RETURN(HfObject object, at.GetObject(key));
  return object;
}

}  // namespace

absl::Status ReadHfRope(const HfObject& root, double window_theta, HfConfig& config) {
  ModelConfig& c = config.config;
  const std::string_view key = root.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  ASSIGN_OR_RETURN(std::optional<HfObject> all, ObjectOrNone(root, key));
  std::optional<HfObject> of_windows;
  // transformers 5 states the rotations of models with two kinds of layers by kind.
  if (all.has_value() && all->Has("full_attention")) {
    ASSIGN_OR_RETURN(of_windows, ObjectOrNone(*all, "sliding_attention"));
    ASSIGN_OR_RETURN(all, ObjectOrNone(*all, "full_attention"));
  }
  const double theta = window_theta > 0 ? 1e6 : 1e4;
  ASSIGN_OR_RETURN(c.rope, ReadOne(root, all, "rope_theta", theta, config));
  if (window_theta > 0 && !c.windows.empty()) {
    ASSIGN_OR_RETURN(c.window_rope,
                     ReadOne(root, of_windows, "rope_local_base_freq", window_theta, config));
  }
  return absl::OkStatus();
}

}  // namespace sluice
