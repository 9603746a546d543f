#include "model/hf_quantisation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "model/model_limits.h"
#include "model/tensor_table.h"

namespace sluice {
namespace {

constexpr int64_t kMaxGroup = kMaxFfnDim;

absl::Status NotSupported(const HfObject& config, std::string_view key, std::string_view value,
                          std::string_view supported) {
  return config.Unsupported(
      key, fmt::format("is '{}'; supported: {}", QuoteForMessage(value), supported));
}

// A whole number of columns, or -1 for all, which becomes 0.
absl::StatusOr<int64_t> ReadGroup(const HfObject& config, std::string_view key) {
  ASSIGN_OR_RETURN(const int64_t group, config.GetInt(key, -1, kMaxGroup));
  if (group == 0) return config.KeyError(key, "is 0; it must be -1 or at least 1");
  return std::max<int64_t>(group, 0);
}

std::string Describe(const HfScheme& scheme) {
  std::string out = scheme.packing == HfPacking::kFp8 ? "fp8" : fmt::format("{} bits", scheme.bits);
  if (scheme.block_rows > 1) {
    out += fmt::format(" in blocks of {} x {}", scheme.block_rows, scheme.group);
  } else if (scheme.group > 0) {
    out += fmt::format(" in groups of {}", scheme.group);
  } else {
    out += scheme.block_rows == 0 ? " a tensor" : " a row";
  }
  return out + (scheme.symmetric ? "" : " with zero points");
}

absl::StatusOr<std::pair<int64_t, int64_t>> ReadBlock(const HfObject& config,
                                                      std::string_view key) {
  ASSIGN_OR_RETURN(const std::vector<double> sides, config.GetFloats(key, 1, kMaxGroup, 2));
  for (const double side : sides) {
    if (static_cast<double>(static_cast<int64_t>(side)) != side) {
      return config.KeyError(key, "has a side with a fraction");
    }
  }
  if (sides.size() != 2) {
    return config.KeyError(key, fmt::format("has {} elements; 2 are needed", sides.size()));
  }
  return std::pair(static_cast<int64_t>(sides[0]), static_cast<int64_t>(sides[1]));
}

absl::Status ReadFp8(const HfObject& config, HfQuantisation& out) {
  ASSIGN_OR_RETURN(const std::string_view format, config.GetStringOr("fmt", "e4m3"));
  if (format != "e4m3") return NotSupported(config, "fmt", format, "e4m3");
  HfScheme scheme{.packing = HfPacking::kFp8, .fp8_inputs = true};
  if (config.Has("weight_block_size")) {
    ASSIGN_OR_RETURN(const auto block, ReadBlock(config, "weight_block_size"));
    std::tie(scheme.block_rows, scheme.group) = block;
    out.schemes = {scheme};
    return absl::OkStatus();
  }
  // The file does not say which of the two it is; the scales' shape does.
  out.schemes = {scheme, scheme};
  out.schemes[0].block_rows = 0;
  return absl::OkStatus();
}

absl::Status ReadAwq(const HfObject& config, HfQuantisation& out) {
  ASSIGN_OR_RETURN(const std::string_view version, config.GetStringOr("version", "gemm"));
  if (version != "gemm" && version != "GEMM") {
    return NotSupported(config, "version", version, "gemm");
  }
  const std::string_view bits_key = config.Has("w_bit") ? "w_bit" : "bits";
  ASSIGN_OR_RETURN(const int64_t bits, config.GetInt(bits_key, 1, 32));
  if (bits != 4) return NotSupported(config, bits_key, fmt::to_string(bits), "4");
  ASSIGN_OR_RETURN(const bool zeros, config.GetBoolOr("zero_point", true));
  if (!zeros) return NotSupported(config, "zero_point", "false", "true");
  HfScheme scheme{.packing = HfPacking::kAwq, .bits = 4, .symmetric = false};
  ASSIGN_OR_RETURN(scheme.group,
                   ReadGroup(config, config.Has("q_group_size") ? "q_group_size" : "group_size"));
  out.schemes = {scheme};
  return absl::OkStatus();
}

absl::Status ReadGptq(const HfObject& config, HfQuantisation& out) {
  ASSIGN_OR_RETURN(const int64_t bits, config.GetInt("bits", 1, 32));
  if (bits != 4 && bits != 8) return NotSupported(config, "bits", fmt::to_string(bits), "4, 8");
  ASSIGN_OR_RETURN(const bool marlin, config.GetBoolOr("is_marlin_format", false));
  if (marlin) return NotSupported(config, "is_marlin_format", "true", "false");
  ASSIGN_OR_RETURN(const std::string_view format, config.GetStringOr("checkpoint_format", "gptq"));
  if (format != "gptq" && format != "gptq_v2") {
    return NotSupported(config, "checkpoint_format", format, "gptq, gptq_v2");
  }
  HfScheme scheme{.packing = HfPacking::kGptq, .bits = static_cast<int32_t>(bits)};
  ASSIGN_OR_RETURN(scheme.group, ReadGroup(config, "group_size"));
  ASSIGN_OR_RETURN(scheme.symmetric, config.GetBoolOr("sym", true));
  scheme.zero_plus_one = format == "gptq";
  out.schemes = {scheme};
  return absl::OkStatus();
}

// --- compressed-tensors ---

constexpr std::string_view kFormats[] = {"float-quantized", "int-quantized", "naive-quantized",
                                         "pack-quantized", "mixed-precision"};

absl::Status CheckFormat(const HfObject& config, std::string_view format) {
  if (std::ranges::find(kFormats, format) != std::end(kFormats)) return absl::OkStatus();
  return NotSupported(config, "format", format, fmt::format("{}", fmt::join(kFormats, ", ")));
}

absl::StatusOr<HfPacking> ReadPacking(const HfObject& config, std::string_view format,
                                      const HfObject& weights, int64_t bits) {
  ASSIGN_OR_RETURN(const std::string_view type, weights.GetStringOr("type", "int"));
  const bool naive = format == "naive-quantized";
  if (format == "pack-quantized") {
    if (type != "int") return NotSupported(weights, "type", type, "int");
    if (bits != 4 && bits != 8) {
      return NotSupported(weights, "num_bits", fmt::to_string(bits), "4, 8");
    }
    return HfPacking::kRows;
  }
  RETURN_IF_ERROR(CheckFormat(config, format));
  if (format == "mixed-precision") return config.KeyError("format", "is missing in a mixture");
  if (bits != 8) return NotSupported(weights, "num_bits", fmt::to_string(bits), "8");
  if (type == "float" && format != "int-quantized") return HfPacking::kFp8;
  if (type == "int" && format != "float-quantized") return HfPacking::kInt8;
  return NotSupported(weights, "type", type,
                      naive ? "float, int" : format.substr(0, format.find('-')));
}

absl::Status ReadStrategy(const HfObject& weights, HfScheme& scheme) {
  ASSIGN_OR_RETURN(const int64_t group, weights.GetIntOr("group_size", -1, kMaxGroup, -1));
  ASSIGN_OR_RETURN(const std::string_view strategy,
                   weights.GetStringOr("strategy", group > 0 ? "group" : "tensor"));
  if (strategy == "tensor") {
    scheme.block_rows = 0;
  } else if (strategy == "group") {
    if (group < 1) return weights.KeyError("group_size", "must be at least 1 in groups");
    scheme.group = group;
  } else if (strategy == "block") {
    ASSIGN_OR_RETURN(const auto block, ReadBlock(weights, "block_structure"));
    std::tie(scheme.block_rows, scheme.group) = block;
  } else if (strategy != "channel") {
    return NotSupported(weights, "strategy", strategy, "tensor, channel, group, block");
  }
  return absl::OkStatus();
}

absl::StatusOr<HfScheme> ReadConfigGroup(const HfObject& group, std::string_view format) {
  ASSIGN_OR_RETURN(const HfObject weights, group.GetObject("weights"));
  ASSIGN_OR_RETURN(const std::string_view own, group.GetStringOr("format", format));
  ASSIGN_OR_RETURN(const int64_t bits, weights.GetIntOr("num_bits", 1, 32, 8));
  HfScheme scheme{.bits = static_cast<int32_t>(bits)};
  ASSIGN_OR_RETURN(scheme.packing, ReadPacking(group, own, weights, bits));
  ASSIGN_OR_RETURN(scheme.symmetric, weights.GetBoolOr("symmetric", true));
  if (!scheme.symmetric && scheme.packing == HfPacking::kFp8) {
    return NotSupported(weights, "symmetric", "false", "true with floats");
  }
  RETURN_IF_ERROR(ReadStrategy(weights, scheme));
  if (scheme.packing == HfPacking::kFp8 && group.Has("input_activations")) {
    ASSIGN_OR_RETURN(const HfObject inputs, group.GetObject("input_activations"));
    ASSIGN_OR_RETURN(const std::string_view type, inputs.GetStringOr("type", "int"));
    ASSIGN_OR_RETURN(const int64_t input_bits, inputs.GetIntOr("num_bits", 1, 32, 8));
    scheme.fp8_inputs = type == "float" && input_bits == 8;
  }
  return scheme;
}

// What would change the result of the linear layers' products, or of others.
absl::Status CheckNothingElse(const HfObject& config) {
  if (config.Has("sparsity_config")) {
    ASSIGN_OR_RETURN(const HfObject sparsity, config.GetObject("sparsity_config"));
    ASSIGN_OR_RETURN(const std::string_view format, sparsity.GetStringOr("format", "dense"));
    if (format != "dense") return NotSupported(sparsity, "format", format, "dense");
  }
  if (config.Has("transform_config")) {
    ASSIGN_OR_RETURN(const HfObject transforms, config.GetObject("transform_config"));
    if (transforms.Has("config_groups")) {
      return config.Unsupported("transform_config", "has transforms; none are supported");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadCompressedTensors(const HfObject& config, HfQuantisation& out) {
  constexpr size_t kMaxGroups = 64;
  RETURN_IF_ERROR(CheckNothingElse(config));
  ASSIGN_OR_RETURN(const std::string_view format, config.GetString("format"));
  RETURN_IF_ERROR(CheckFormat(config, format));
  ASSIGN_OR_RETURN(const HfObject groups, config.GetObject("config_groups"));
  if (groups.object().size() > kMaxGroups) {
    return config.KeyError("config_groups", fmt::format("has {} groups; at most {} are allowed",
                                                        groups.object().size(), kMaxGroups));
  }
  for (const auto& entry : groups.object()) {
    ASSIGN_OR_RETURN(const HfObject group,
                     groups.GetObject({entry.key().data(), entry.key().size()}));
    if (!group.Has("weights")) continue;  // activations only
    ASSIGN_OR_RETURN(out.schemes.emplace_back(), ReadConfigGroup(group, format));
  }
  const bool all_inputs = std::ranges::all_of(out.schemes, [](const HfScheme& scheme) {
    return scheme.packing != HfPacking::kFp8 || scheme.fp8_inputs;
  });
  for (HfScheme& scheme : out.schemes) scheme.fp8_inputs &= all_inputs;
  return absl::OkStatus();
}

constexpr struct {
  std::string_view method;
  absl::Status (*read)(const HfObject& config, HfQuantisation& out);
} kMethods[] = {{"fp8", ReadFp8},
                {"compressed-tensors", ReadCompressedTensors},
                {"awq", ReadAwq},
                {"gptq", ReadGptq}};

}  // namespace

absl::StatusOr<std::optional<HfQuantisation>> ReadHfQuantisation(const HfObject& root) {
  const std::string_view key =
      root.Has("quantization_config") ? "quantization_config" : "compression_config";
  if (!root.Has(key)) return std::nullopt;
  ASSIGN_OR_RETURN(const HfObject config, root.GetObject(key));
  // Sparse but not quantised folders of early compressed-tensors have no method.
  ASSIGN_OR_RETURN(const std::string_view method,
                   config.GetStringOr("quant_method", "compressed-tensors"));
  for (const auto& known : kMethods) {
    if (method != known.method) continue;
    HfQuantisation out{.method = std::string(method)};
    RETURN_IF_ERROR(known.read(config, out));
    std::vector<std::string> schemes;
    schemes.reserve(out.schemes.size());
    for (const HfScheme& scheme : out.schemes) schemes.push_back(Describe(scheme));
    out.summary = fmt::format("{}: {}", method, fmt::join(schemes, ", or "));
    if (config.Has("kv_cache_scheme")) {
      out.summary += "; its kv_cache_scheme is not used, keys and values are 16-bit floats";
    }
    return out;
  }
  std::vector<std::string_view> names;
  for (const auto& known : kMethods) names.push_back(known.method);
  return NotSupported(config, "quant_method", method, fmt::format("{}", fmt::join(names, ", ")));
}

}  // namespace sluice
