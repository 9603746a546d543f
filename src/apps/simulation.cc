#include "apps/simulation.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <variant>
#include <vector>

#include "base/status_macros.h"
#include "model/linear_loader.h"
#include "model/quantise.h"

namespace sluice {
namespace {

// A key of a file and where its value goes. Numbers lie in [min, max].
struct Field {
  std::string_view key;
  std::variant<std::string*, bool*, int32_t*, int64_t*, double*> out;
  double min = 0, max = 0;
  bool required = true;
};

constexpr double kMaxRate = 1e18, kMaxSeconds = 10, kMaxDim = 1 << 24;

absl::Status Wrong(const std::string& file, std::string_view key, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{}: {} {}", file, key, what));
}

absl::Status ReadNumber(const Field& field, const std::string& file, const toml::node& node) {
  const auto value = node.value<double>();  // of an integer, too
  if (!value.has_value() || !(*value >= field.min && *value <= field.max)) {
    return Wrong(file, field.key,
                 fmt::format("must be a number between {:g} and {:g}", field.min, field.max));
  }
  if (auto* const* real = std::get_if<double*>(&field.out)) {
    **real = *value;
    return absl::OkStatus();
  }
  const auto whole = static_cast<int64_t>(*value);
  if (static_cast<double>(whole) != *value) return Wrong(file, field.key, "must be a whole number");
  if (auto* const* wide = std::get_if<int64_t*>(&field.out)) **wide = whole;
  if (auto* const* narrow = std::get_if<int32_t*>(&field.out))
    **narrow = static_cast<int32_t>(whole);
  return absl::OkStatus();
}

absl::Status ReadField(const Field& field, const std::string& file, const toml::node& node) {
  if (auto* const* text = std::get_if<std::string*>(&field.out)) {
    const auto value = node.value<std::string>();
    if (!value.has_value() || value->empty() || value->size() > 64)
      return Wrong(file, field.key, "must be a text of 1 to 64 bytes");
    **text = *value;
    return absl::OkStatus();
  }
  if (auto* const* flag = std::get_if<bool*>(&field.out)) {
    if (!node.is_boolean()) return Wrong(file, field.key, "must be true or false");
    **flag = node.value_or(false);
    return absl::OkStatus();
  }
  return ReadNumber(field, file, node);
}

absl::Status ReadFields(const toml::table& table, const std::string& file,
                        const std::vector<Field>& fields) {
  for (const auto& [key, node] : table) {
    const auto known = std::ranges::find(fields, key.str(), &Field::key);
    if (known == fields.end())
      return absl::InvalidArgumentError(fmt::format("{}: unknown key {:?}", file, key.str()));
    RETURN_IF_ERROR(ReadField(*known, file, node));
  }
  for (const Field& field : fields) {
    if (field.required && !table.contains(field.key)) return Wrong(file, field.key, "is not set");
  }
  return absl::OkStatus();
}

// The built-in file of that name, or the file at that path.
absl::StatusOr<toml::table> ReadTable(std::span<const SimulationFile> files, std::string_view what,
                                      const std::string& name) {
  try {
    const auto known = std::ranges::find(files, name, &SimulationFile::name);
    if (known != files.end()) return toml::parse(known->text, name);
    if (std::filesystem::is_regular_file(name)) return toml::parse_file(name);
  } catch (const toml::parse_error& error) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: line {}: {}", name, error.source().begin.line, std::string(error.description())));
  } catch (const std::exception& error) {
    return absl::NotFoundError(fmt::format("{}: {}", name, error.what()));
  }
  std::string names;
  for (const SimulationFile& file : files) names += fmt::format(" {}", file.name);
  return absl::NotFoundError(
      fmt::format("{} {:?} is neither a file nor one of{}", what, name, names));
}

}  // namespace

absl::StatusOr<DeviceSpec> LoadDevice(const std::string& name) {
  ASSIGN_OR_RETURN(const toml::table table, ReadTable(DeviceFiles(), "sim-device", name));
  DeviceSpec d;
  RETURN_IF_ERROR(ReadFields(table, name,
                             {{"name", &d.name},
                              {"memory-bytes", &d.memory_bytes, 1 << 20, 1e15},
                              {"bandwidth-bytes-per-s", &d.bandwidth_bytes_per_s, 1e6, kMaxRate},
                              {"bandwidth-efficiency", &d.bandwidth_efficiency, 0.001, 1},
                              {"flops-per-s", &d.flops_per_s, 1e6, kMaxRate},
                              {"fp8-flops-per-s", &d.fp8_flops_per_s, 1e6, kMaxRate, false},
                              {"flops-efficiency", &d.flops_efficiency, 0.001, 1},
                              {"attention-efficiency", &d.attention_efficiency, 0.001, 1, false},
                              {"step-s", &d.step_s, 0, kMaxSeconds},
                              {"layer-s", &d.layer_s, 0, kMaxSeconds},
                              {"token-s", &d.token_s, 0, kMaxSeconds},
                              {"row-s", &d.row_s, 0, kMaxSeconds},
                              {"max-steps-in-flight", &d.max_steps_in_flight, 1, 8}}));
  return d;
}

absl::StatusOr<ModelShape> LoadShape(const std::string& name) {
  ASSIGN_OR_RETURN(const toml::table table, ReadTable(ShapeFiles(), "model-shape", name));
  ModelShape s;
  ModelConfig& c = s.config;
  RETURN_IF_ERROR(
      ReadFields(table, name,
                 {{"name", &s.name},
                  {"num-layers", &c.num_layers, 1, 1024},
                  {"model-dim", &c.model_dim, 1, kMaxDim},
                  {"ffn-dim", &c.ffn_dim, 1, kMaxDim},
                  {"num-q-heads", &c.num_q_heads, 1, 1024},
                  {"num-kv-heads", &c.num_kv_heads, 1, 1024},
                  {"head-dim", &c.head_dim, 2, 1024},
                  {"vocab-size", &c.vocab_size, 1, kMaxDim},
                  {"max-context", &c.max_context, 1, kMaxDim},
                  {"num-experts", &c.moe.num_experts, 1, 4096, false},
                  {"num-used-experts", &c.moe.num_used, 1, 4096, false},
                  {"expert-ffn-dim", &c.moe.ffn_dim, 1, kMaxDim, false},
                  {"shared-ffn-dim", &c.moe.shared_ffn_dim, 0, kMaxDim, false},
                  {"tied-head", &s.tied_head},
                  {"weight-bytes-per-parameter", &s.weight_bytes_per_parameter, 0.05, 8},
                  {"kv-bytes-per-element", &s.kv_bytes_per_element, 0.05, 8},
                  {"fp8-products", &s.fp8_products}}));
  c.rope.dim = c.head_dim;
  if (c.num_q_heads % c.num_kv_heads != 0)
    return Wrong(name, "num-q-heads", "must be a multiple of num-kv-heads");
  const MoeConfig& moe = c.moe;
  const bool whole = (moe.num_experts > 0) == (moe.num_used > 0) &&
                     (moe.num_experts > 0) == (moe.ffn_dim > 0) && moe.num_used <= moe.num_experts;
  if (!whole)
    return Wrong(name, "num-experts,", "num-used-experts and expert-ffn-dim belong together");
  return s;
}

ModelShape ShapeOf(const Config& config, const ModelFile& model) {
  ModelShape s;
  s.name = "the model's own sizes";
  s.config = model.config;
  s.tied_head = model.weights.head.data == nullptr;
  const int64_t bytes = LinearBytes(model.weights, ParseQuantisedType(config.quantize));
  s.weight_bytes_per_parameter =
      static_cast<double>(bytes) / (s.LayerParameters() + s.HeadParameters());
  return s;
}

}  // namespace sluice
