#include "model/weight_views.h"

#include <fmt/format.h>

#include <set>
#include <string>
#include <string_view>

#include "base/status_macros.h"

namespace sluice {
namespace {

// Looks tensors up by name and remembers which were asked for.
class Finder {
 public:
  explicit Finder(const TensorTable& table) : table_(table) {}

  // The tensor as rows x cols (1 x cols for a vector). Not there: an error if `needed`, else a view
  // without data.
  absl::Status Find(std::string_view name, int64_t rows, int64_t cols, bool needed,
                    WeightView& view) {
    const ModelTensor* tensor = table_.Find(name);
    if (tensor == nullptr) {
      if (!needed) return absl::OkStatus();
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' is missing", table_.source, name));
    }
    used_.insert(tensor->name);
    const bool vector_fits = rows == 1 && tensor->num_dims == 1;
    const bool matrix_fits = rows > 1 && tensor->num_dims == 2;
    if (tensor->dims[0] != cols || tensor->dims[1] != rows || !(vector_fits || matrix_fits)) {
      const std::string wanted =
          rows == 1 ? fmt::format("[{}]", cols) : fmt::format("[{}, {}]", cols, rows);
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' has shape {}; the metadata asks for {}", table_.source, name,
                      tensor->ShapeString(), wanted));
    }
    view = {tensor->dtype, rows, cols, tensor->data};
    return absl::OkStatus();
  }

  absl::Status CheckAllUsed() const {
    for (const ModelTensor& tensor : table_.tensors) {
      if (!used_.contains(tensor.name)) {
        return absl::InvalidArgumentError(
            fmt::format("{}: tensor '{}' has no place in this architecture", table_.source,
                        QuoteForMessage(tensor.name)));
      }
    }
    return absl::OkStatus();
  }

  absl::Status MustBeF32(const WeightView& view, std::string_view what) const {
    if (view.data == nullptr || view.dtype == DType::kF32) return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format(
        "{}: {} has type {}; F32 is needed", table_.source, what, GetDTypeInfo(view.dtype).name));
  }

  absl::Status AllOrNone(std::initializer_list<const WeightView*> views,
                         std::string_view what) const {
    size_t there = 0;
    for (const WeightView* view : views) there += view->data != nullptr ? 1 : 0;
    if (there == 0 || there == views.size()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("{}: {} of the {} {} are there; all or none are allowed", table_.source, there,
                    views.size(), what));
  }

 private:
  const TensorTable& table_;
  std::set<std::string_view> used_;
};

absl::Status FindLayer(Finder& finder, const ModelConfig& c, int32_t index, LayerViews& layer) {
  const struct {
    std::string_view suffix;
    int64_t rows, cols;
    bool needed;
    WeightView* view;
  } kParts[] = {
      {"attn_norm.weight", 1, c.model_dim, true, &layer.attn_norm},
      {"attn_q.weight", c.q_cols(), c.model_dim, true, &layer.q},
      {"attn_k.weight", c.kv_cols(), c.model_dim, true, &layer.k},
      {"attn_v.weight", c.kv_cols(), c.model_dim, true, &layer.v},
      {"attn_q.bias", 1, c.q_cols(), false, &layer.q_bias},
      {"attn_k.bias", 1, c.kv_cols(), false, &layer.k_bias},
      {"attn_v.bias", 1, c.kv_cols(), false, &layer.v_bias},
      {"attn_q_norm.weight", 1, c.head_dim, false, &layer.q_norm},
      {"attn_k_norm.weight", 1, c.head_dim, false, &layer.k_norm},
      {"attn_output.weight", c.model_dim, c.q_cols(), true, &layer.o},
      {"ffn_norm.weight", 1, c.model_dim, true, &layer.ffn_norm},
      {"ffn_gate.weight", c.ffn_dim, c.model_dim, true, &layer.gate},
      {"ffn_up.weight", c.ffn_dim, c.model_dim, true, &layer.up},
      {"ffn_down.weight", c.model_dim, c.ffn_dim, true, &layer.down},
  };
  for (const auto& part : kParts) {
    RETURN_IF_ERROR(finder.Find(fmt::format("blk.{}.{}", index, part.suffix), part.rows, part.cols,
                                part.needed, *part.view));
  }
  for (const WeightView* bias : {&layer.q_bias, &layer.k_bias, &layer.v_bias}) {
    RETURN_IF_ERROR(finder.MustBeF32(*bias, fmt::format("a bias of layer {}", index)));
  }
  RETURN_IF_ERROR(finder.AllOrNone({&layer.q_bias, &layer.k_bias, &layer.v_bias},
                                   fmt::format("q, k and v biases of layer {}", index)));
  return finder.AllOrNone({&layer.q_norm, &layer.k_norm},
                          fmt::format("q and k norms of layer {}", index));
}

absl::Status CheckRopeFreqs(const TensorTable& table, const WeightView& view) {
  const auto* divisors = static_cast<const float*>(view.data);
  for (int64_t i = 0; divisors != nullptr && i < view.cols; ++i) {
    if (divisors[i] >= 1e-6F && divisors[i] <= 1e6F) continue;  // false for NaN
    return absl::InvalidArgumentError(
        fmt::format("{}: tensor 'rope_freqs.weight' has {} at element {}; must be in [1e-6, 1e6]",
                    table.source, divisors[i], i));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<WeightViews> FindWeights(const TensorTable& table, const ModelConfig& config) {
  Finder finder(table);
  WeightViews weights;
  RETURN_IF_ERROR(finder.Find("token_embd.weight", config.vocab_size, config.model_dim, true,
                              weights.token_embd));
  for (int32_t i = 0; i < config.num_layers; ++i) {
    RETURN_IF_ERROR(FindLayer(finder, config, i, weights.layers.emplace_back()));
  }
  RETURN_IF_ERROR(
      finder.Find("output_norm.weight", 1, config.model_dim, true, weights.output_norm));
  RETURN_IF_ERROR(
      finder.Find("output.weight", config.vocab_size, config.model_dim, false, weights.head));
  RETURN_IF_ERROR(
      finder.Find("rope_freqs.weight", 1, config.rope_dim / 2, false, weights.rope_freqs));
  RETURN_IF_ERROR(finder.MustBeF32(weights.rope_freqs, "'rope_freqs.weight'"));
  RETURN_IF_ERROR(CheckRopeFreqs(table, weights.rope_freqs));
  RETURN_IF_ERROR(finder.CheckAllUsed());
  return weights;
}

}  // namespace sluice
