#include "model/hf_quantised_layers.h"

#include <fmt/format.h>

namespace sluice {
namespace {

constexpr struct {
  std::string_view suffix;
  HfPart HfQuantisedParts::* part;  // null: not used
} kSuffixes[] = {
    {".weight_packed", &HfQuantisedParts::codes},
    {".qweight", &HfQuantisedParts::codes},
    {".weight_scale", &HfQuantisedParts::scales},
    {".weight_scale_inv", &HfQuantisedParts::scales},
    {".scales", &HfQuantisedParts::scales},
    {".weight_zero_point", &HfQuantisedParts::zeros},
    {".qzeros", &HfQuantisedParts::zeros},
    {".weight_shape", &HfQuantisedParts::shape},
    {".weight_g_idx", &HfQuantisedParts::group_index},
    {".g_idx", &HfQuantisedParts::group_index},
    // How others round activations, keys and values: Sluice has its own ways.
    {".activation_scale", nullptr},
    {".input_scale", nullptr},
    {".input_zero_point", nullptr},
    {".output_scale", nullptr},
    {".output_zero_point", nullptr},
    {".q_scale", nullptr},
    {".k_scale", nullptr},
    {".v_scale", nullptr},
};

absl::Status Refuse(const HfPart& part, std::string_view message) {
  return absl::InvalidArgumentError(fmt::format("{}: tensor '{}' {}", part.file->name(),
                                                QuoteForMessage(part.tensor->name), message));
}

}  // namespace

absl::StatusOr<bool> HfQuantisedLayers::Take(const SafetensorsFile& file,
                                             const SafetensorsTensor& tensor) {
  const std::string_view name = tensor.name;
  const bool is_code =
      tensor.type == SafetensorsType::kF8E4M3 || tensor.type == SafetensorsType::kI8;
  std::string_view suffix = ".weight";
  HfPart HfQuantisedParts::* part = &HfQuantisedParts::codes;
  if (!is_code || !name.ends_with(suffix)) {
    suffix = {};
    for (const auto& known : kSuffixes) {
      if (!name.ends_with(known.suffix)) continue;
      if (known.part == nullptr) return true;
      suffix = known.suffix;
      part = known.part;
    }
  }
  if (suffix.empty()) return false;
  HfPart& place = layers_[name.substr(0, name.size() - suffix.size())].*part;
  if (place.tensor != nullptr) {
    return Refuse({&file, &tensor},
                  fmt::format("is for the same as '{}'", QuoteForMessage(place.tensor->name)));
  }
  place = {&file, &tensor};
  return true;
}

absl::StatusOr<const std::map<std::string_view, HfQuantisedParts>*> HfQuantisedLayers::All() const {
  for (const auto& [stem, parts] : layers_) {
    if (parts.codes.tensor != nullptr) continue;
    for (const HfPart* part : {&parts.scales, &parts.zeros, &parts.shape, &parts.group_index}) {
      if (part->tensor != nullptr) return Refuse(*part, "belongs to no quantised weight");
    }
  }
  return &layers_;
}

}  // namespace sluice
