#include "model/hf_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "kernels/half.h"
#include "model/hf_quantised_layers.h"
#include "model/model_limits.h"

namespace sluice {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;

constexpr NamePair kTopNames[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};

// After "model.layers.N.": without ".weight" or ".bias", which stay.
constexpr NamePair kLayerNames[] = {
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.qkv_proj", "attn_qkv"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"self_attn.o_proj", "attn_output"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"mlp.gate_up_proj", "ffn_up"},
    {"mlp.gate", "ffn_gate_inp"},
    {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
    {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
    {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
    {"block_sparse_moe.gate", "ffn_gate_inp"},
};

// After "experts.E.".
constexpr NamePair kExpertNames[] = {{"gate_proj.weight", "ffn_gate"}, {"up_proj.weight", "ffn_up"},
                                     {"down_proj.weight", "ffn_down"}, {"w1.weight", "ffn_gate"},
                                     {"w3.weight", "ffn_up"},          {"w2.weight", "ffn_down"}};

std::optional<std::string_view> Lookup(std::span<const NamePair> names, std::string_view name) {
  const auto it = std::ranges::find(names, name, &NamePair::first);
  return it == names.end() ? std::nullopt : std::optional(it->second);
}

// "12.rest": takes the number and the dot off; nothing for anything else.
std::optional<int> TakeNumber(std::string_view& name) {
  int number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.' || number < 0) {
    return std::nullopt;
  }
  name.remove_prefix(static_cast<size_t>(end + 1 - name.data()));
  return number;
}

std::optional<std::string> LayerName(std::string_view name, bool post_norms) {
  const std::optional<int> layer = TakeNumber(name);
  if (!layer.has_value()) return std::nullopt;
  for (const std::string_view experts : {"mlp.experts.", "block_sparse_moe.experts."}) {
    if (!name.starts_with(experts)) continue;
    name.remove_prefix(experts.size());
    const std::optional<int> expert = TakeNumber(name);
    const auto part = Lookup(kExpertNames, name);
    if (!expert.has_value() || !part.has_value()) return std::nullopt;
    return fmt::format("blk.{}.{}.{}.weight", *layer, *part, *expert);
  }
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view stem = name.substr(0, dot), kind = name.substr(dot);
  if (kind != ".weight" && kind != ".bias") return std::nullopt;
  // The one name that means two things: in families with norms behind their blocks it is such one.
  if (stem == "post_attention_layernorm") {
    return fmt::format("blk.{}.{}{}", *layer, post_norms ? "post_attention_norm" : "ffn_norm",
                       kind);
  }
  const auto known = Lookup(kLayerNames, stem);
  if (!known.has_value()) return std::nullopt;
  return fmt::format("blk.{}.{}{}", *layer, *known, kind);
}

// The two ways in which models for images and text name their decoder's tensors, older and newer,
// as a decoder alone would; nothing for the other parts' tensors.
std::optional<std::string> NameInTextPart(std::string_view name) {
  constexpr NamePair kPrefixes[] = {{"language_model.model.", "model."},
                                    {"language_model.lm_head.", "lm_head."},
                                    {"model.language_model.", "model."},
                                    {"lm_head.", "lm_head."}};
  for (const auto& [prefix, plain] : kPrefixes) {
    if (name.starts_with(prefix)) return fmt::format("{}{}", plain, name.substr(prefix.size()));
  }
  return std::nullopt;
}

// Of the parts for images, which are not served.
bool IsOfImages(std::string_view name) {
  for (const std::string_view part : {"vision_tower.", "multi_modal_projector."}) {
    if (name.starts_with(part)) return true;
    if (name.starts_with("model.") && name.substr(6).starts_with(part)) return true;
  }
  return false;
}

// What exporters leave in files though nothing is computed from it.
bool IsIgnorable(std::string_view name, const HfConfig& config) {
  if (config.nested && IsOfImages(name)) return true;
  const bool head =
      name == "lm_head.weight" || (config.nested && name == "language_model.lm_head.weight");
  return name.ends_with(".rotary_emb.inv_freq") || (config.tied_head && head);
}

class Namer {
 public:
  Namer(const HfConfig& config, std::span<const SafetensorsFile> files) : config_(config) {
    for (const SafetensorsFile& file : files) {
      for (const SafetensorsTensor& tensor : file.tensors()) {
        post_norms_ |= tensor.name.ends_with(".pre_feedforward_layernorm.weight");
      }
    }
  }

  absl::Status Add(const SafetensorsFile& file, const SafetensorsTensor& tensor, HfTensors& out) {
    if (IsIgnorable(tensor.name, config_)) return absl::OkStatus();
    if (config_.quantisation.has_value()) {
      ASSIGN_OR_RETURN(const bool taken, quantised_.Take(file, tensor));
      if (taken) return absl::OkStatus();
    }
    std::optional<std::string> name = NameOf(tensor.name);
    if (config_.quantisation.has_value() && IsEmptyBias(tensor, name)) return absl::OkStatus();
    if (!name.has_value()) return NoPlace(file, tensor);
    ModelTensor named;
    RETURN_IF_ERROR(Describe(file, tensor, named));
    named.name = out.names.emplace_back(*std::move(name));
    Place(named, out);
    out.table.tensors.push_back(named);
    return absl::OkStatus();
  }

  // After all tensors: the quantised layers that were among them.
  absl::Status AddQuantised(bool keep_fp8, HfTensors& out) {
    ASSIGN_OR_RETURN(const auto* layers, quantised_.All());
    for (const auto& [stem, parts] : *layers) {
      const SafetensorsFile& file = *parts.codes.file;
      std::optional<std::string> name = NameOf(fmt::format("{}.weight", stem));
      if (!name.has_value()) return NoPlace(file, *parts.codes.tensor);
      if (*name == "token_embd.weight" || name->ends_with("norm.weight")) {
        return absl::UnimplementedError(
            fmt::format("{}: tensor '{}' is quantised; supported for linear layers only",
                        file.name(), QuoteForMessage(parts.codes.tensor->name)));
      }
      ASSIGN_OR_RETURN(auto matrix,
                       HfQuantisedMatrix::Create(parts, config_.quantisation->schemes, keep_fp8));
      ModelTensor named{.name = out.names.emplace_back(*std::move(name)),
                        .dtype = matrix->dtype(),
                        .num_dims = matrix->rows() == 1 ? 1 : 2,
                        .dims = {matrix->cols(), matrix->rows(), 1, 1},
                        .data = matrix->data()};
      named.num_bytes = matrix->rows() * WeightView{matrix->dtype(), 1, matrix->cols()}.row_bytes();
      named.source = matrix.get();
      out.quantised.push_back(std::move(matrix));
      out.table.tensors.push_back(named);
    }
    return absl::OkStatus();
  }

 private:
  [[nodiscard]] std::optional<std::string> NameOf(std::string_view name) const {
    if (!config_.nested) return NameInDecoder(name);
    const std::optional<std::string> plain = NameInTextPart(name);
    return plain.has_value() ? NameInDecoder(*plain) : std::nullopt;
  }

  [[nodiscard]] std::optional<std::string> NameInDecoder(std::string_view name) const {
    if (const auto top = Lookup(kTopNames, name)) return std::string(*top);
    constexpr std::string_view kLayers = "model.layers.";
    if (!name.starts_with(kLayers)) return std::nullopt;
    return LayerName(name.substr(kLayers.size()), post_norms_);
  }

  [[nodiscard]] absl::Status NoPlace(const SafetensorsFile& file,
                                     const SafetensorsTensor& tensor) const {
    return absl::InvalidArgumentError(fmt::format("{}: tensor '{}' has no place in {}", file.name(),
                                                  QuoteForMessage(tensor.name),
                                                  config_.class_name));
  }

  // GPTQ's early writers give every linear layer a bias of zeros.
  static bool IsEmptyBias(const SafetensorsTensor& tensor, const std::optional<std::string>& name) {
    if (!tensor.name.ends_with(".bias")) return false;
    for (const std::string_view part : {"attn_q.bias", "attn_k.bias", "attn_v.bias"}) {
      if (name.has_value() && name->ends_with(part)) return false;
    }
    return std::all_of(tensor.data, tensor.data + tensor.num_bytes,
                       [](uint8_t byte) { return byte == 0; });
  }

  // Type and shape in the table's terms.
  static absl::Status Describe(const SafetensorsFile& file, const SafetensorsTensor& tensor,
                               ModelTensor& named) {
    switch (tensor.type) {
      case SafetensorsType::kF32:
        named.dtype = DType::kF32;
        break;
      case SafetensorsType::kF16:
        named.dtype = DType::kF16;
        break;
      case SafetensorsType::kBF16:
        named.dtype = DType::kBF16;
        break;
      default:
        return absl::UnimplementedError(fmt::format(
            "{}: tensor '{}' has type {}; supported types are F32, F16, BF16", file.name(),
            QuoteForMessage(tensor.name), SafetensorsTypeName(tensor.type)));
    }
    if (tensor.num_dims == 0 || tensor.num_bytes == 0) {
      return absl::InvalidArgumentError(fmt::format("{}: tensor '{}' has shape {} and no rows",
                                                    file.name(), QuoteForMessage(tensor.name),
                                                    tensor.ShapeString()));
    }
    named.num_dims = tensor.num_dims;
    for (int i = 0; i < tensor.num_dims; ++i) {
      named.dims[i] = tensor.dims[tensor.num_dims - 1 - i];
    }
    // The shared expert's gate is stored as a matrix of one row.
    if (named.num_dims == 2 && named.dims[1] == 1) named.num_dims = 1;
    named.data = tensor.data;
    named.num_bytes = tensor.num_bytes;
    return absl::OkStatus();
  }

  void Place(ModelTensor& named, HfTensors& out) const {
    const int64_t element_bytes = GetDTypeInfo(named.dtype).block_bytes;
    // Above this no vector is right; FindWeights will say so.
    if (named.num_dims == 1 && named.dims[0] <= kMaxQkvCols) {
      const bool add_one = config_.norms_from_one && named.name.ends_with("norm.weight");
      out.vectors.push_back(AsFloats(named, add_one ? 1.0F : 0.0F));
      named.data = reinterpret_cast<const uint8_t*>(out.vectors.back().get());
      named.dtype = DType::kF32;
      named.num_bytes = named.dims[0] * static_cast<int64_t>(sizeof(float));
    } else if (reinterpret_cast<uintptr_t>(named.data) % static_cast<size_t>(element_bytes) != 0) {
      const auto size = static_cast<size_t>(named.num_bytes);
      out.realigned.push_back(std::make_unique_for_overwrite<uint8_t[]>(size));
      std::memcpy(out.realigned.back().get(), named.data, size);
      named.data = out.realigned.back().get();
    }
  }

  static std::unique_ptr<float[]> AsFloats(const ModelTensor& tensor, float plus) {
    const auto size = static_cast<size_t>(tensor.dims[0]);
    auto floats = std::make_unique_for_overwrite<float[]>(size);
    for (size_t i = 0; i < size; ++i) {
      uint16_t half = 0;
      if (tensor.dtype == DType::kF32) {
        std::memcpy(&floats[i], tensor.data + 4 * i, 4);
      } else {
        std::memcpy(&half, tensor.data + 2 * i, 2);
        floats[i] = tensor.dtype == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
      }
      floats[i] += plus;
    }
    return floats;
  }

  const HfConfig& config_;
  bool post_norms_ = false;
  HfQuantisedLayers quantised_;
};

}  // namespace

absl::StatusOr<HfTensors> NameHfTensors(const HfConfig& config, const std::string& folder,
                                        std::span<const SafetensorsFile> files, bool keep_fp8) {
  HfTensors out;
  out.table.source = folder;
  Namer namer(config, files);
  for (const SafetensorsFile& file : files) {
    for (const SafetensorsTensor& tensor : file.tensors()) {
      RETURN_IF_ERROR(namer.Add(file, tensor, out));
    }
  }
  RETURN_IF_ERROR(namer.AddQuantised(keep_fp8, out));
  std::vector<ModelTensor>& tensors = out.table.tensors;
  std::ranges::sort(tensors, {}, &ModelTensor::name);
  const auto twin = std::ranges::adjacent_find(tensors, {}, &ModelTensor::name);
  if (twin != tensors.end()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: two tensors are '{}' of the model", folder, QuoteForMessage(twin->name)));
  }
  if (!config.tied_head && out.table.Find("output.weight") == nullptr) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: tensor 'lm_head.weight' is missing and tie_word_embeddings is false", folder));
  }
  return out;
}

}  // namespace sluice
