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
    const ModelTensor* tensor = Use(name);
    if (tensor == nullptr) return needed ? Missing(name) : absl::OkStatus();
    const bool vector_fits = rows == 1 && tensor->num_dims == 1;
    const bool matrix_fits = rows > 1 && tensor->num_dims == 2;
    if (tensor->dims[0] != cols || tensor->dims[1] != rows || !(vector_fits || matrix_fits)) {
      const std::string wanted =
          rows == 1 ? fmt::format("[{}]", cols) : fmt::format("[{}, {}]", cols, rows);
      return WrongShape(*tensor, wanted);
    }
    view = {tensor->dtype, rows, cols, tensor->data, tensor->source};
    return absl::OkStatus();
  }

  // One matrix an expert: from `prefix`_exps.weight [cols, rows, count], or from `count` tensors
  // `prefix`.N.weight [cols, rows].
  absl::Status FindExperts(std::string_view prefix, int64_t count, int64_t rows, int64_t cols,
                           std::vector<WeightView>& views) {
    const std::string stacked = fmt::format("{}_exps.weight", prefix);
    const std::string first = fmt::format("{}.0.weight", prefix);
    views.resize(static_cast<size_t>(count));
    const ModelTensor* tensor = Use(stacked);
    if (tensor == nullptr && table_.Find(first) == nullptr) return Missing(stacked);
    if (tensor == nullptr) {
      for (int64_t e = 0; e < count; ++e) {
        RETURN_IF_ERROR(Find(fmt::format("{}.{}.weight", prefix, e), rows, cols, true,
                             views[static_cast<size_t>(e)]));
      }
      return absl::OkStatus();
    }
    if (tensor->num_dims != 3 || tensor->dims[0] != cols || tensor->dims[1] != rows ||
        tensor->dims[2] != count) {
      return WrongShape(*tensor, fmt::format("[{}, {}, {}]", cols, rows, count));
    }
    const WeightView view{tensor->dtype, rows, cols, nullptr};
    for (int64_t e = 0; e < count; ++e) {
      WeightView& expert = views[static_cast<size_t>(e)] = view;
      expert.data = tensor->data + e * rows * view.row_bytes();
    }
    return absl::OkStatus();
  }

  const ModelTensor* Use(std::string_view name) {
    const ModelTensor* tensor = table_.Find(name);
    if (tensor != nullptr) used_.insert(tensor->name);
    return tensor;
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
  absl::Status Missing(std::string_view name) const {
    return absl::InvalidArgumentError(
        fmt::format("{}: tensor '{}' is missing", table_.source, name));
  }
  absl::Status WrongShape(const ModelTensor& tensor, std::string_view wanted) const {
    return absl::InvalidArgumentError(
        fmt::format("{}: tensor '{}' has shape {}; the metadata asks for {}", table_.source,
                    tensor.name, tensor.ShapeString(), wanted));
  }

  const TensorTable& table_;
  std::set<std::string_view> used_;
};

struct Part {
  std::string_view suffix;
  int64_t rows, cols;
  bool needed;
  WeightView* view;
};

absl::Status FindParts(Finder& finder, int32_t layer, std::initializer_list<Part> parts) {
  for (const Part& part : parts) {
    RETURN_IF_ERROR(finder.Find(fmt::format("blk.{}.{}", layer, part.suffix), part.rows, part.cols,
                                part.needed, *part.view));
  }
  return absl::OkStatus();
}

absl::Status FindAttention(Finder& finder, const ModelConfig& c, int32_t index, LayerViews& layer) {
  RETURN_IF_ERROR(FindParts(
      finder, index,
      {{"attn_norm.weight", 1, c.model_dim, true, &layer.attn_norm},
       {"attn_qkv.weight", c.qkv_cols(), c.model_dim, false, &layer.qkv},
       {"attn_q.bias", 1, c.q_cols(), false, &layer.q_bias},
       {"attn_k.bias", 1, c.kv_cols(), false, &layer.k_bias},
       {"attn_v.bias", 1, c.kv_cols(), false, &layer.v_bias},
       {"attn_q_norm.weight", 1, c.head_dim, false, &layer.q_norm},
       {"attn_k_norm.weight", 1, c.head_dim, false, &layer.k_norm},
       {"attn_output.weight", c.model_dim, c.q_cols(), true, &layer.o},
       {"post_attention_norm.weight", 1, c.model_dim, false, &layer.post_attention_norm}}));
  if (layer.qkv.data == nullptr) {
    RETURN_IF_ERROR(FindParts(finder, index,
                              {{"attn_q.weight", c.q_cols(), c.model_dim, true, &layer.q},
                               {"attn_k.weight", c.kv_cols(), c.model_dim, true, &layer.k},
                               {"attn_v.weight", c.kv_cols(), c.model_dim, true, &layer.v}}));
  }
  RETURN_IF_ERROR(finder.AllOrNone({&layer.q_bias, &layer.k_bias, &layer.v_bias},
                                   fmt::format("q, k and v biases of layer {}", index)));
  return finder.AllOrNone({&layer.q_norm, &layer.k_norm},
                          fmt::format("q and k norms of layer {}", index));
}

absl::Status FindExperts(Finder& finder, const ModelConfig& c, int32_t index, LayerViews& layer) {
  const MoeConfig& m = c.moe;
  const std::string blk = fmt::format("blk.{}.", index);
  RETURN_IF_ERROR(finder.FindExperts(blk + "ffn_gate", m.num_experts, m.ffn_dim, c.model_dim,
                                     layer.gate_experts));
  RETURN_IF_ERROR(
      finder.FindExperts(blk + "ffn_up", m.num_experts, m.ffn_dim, c.model_dim, layer.up_experts));
  RETURN_IF_ERROR(finder.FindExperts(blk + "ffn_down", m.num_experts, c.model_dim, m.ffn_dim,
                                     layer.down_experts));
  if (m.shared_ffn_dim == 0) return absl::OkStatus();
  return FindParts(
      finder, index,
      {{"ffn_gate_inp_shexp.weight", 1, c.model_dim, true, &layer.shared_router},
       {"ffn_gate_shexp.weight", m.shared_ffn_dim, c.model_dim, true, &layer.shared_gate},
       {"ffn_up_shexp.weight", m.shared_ffn_dim, c.model_dim, true, &layer.shared_up},
       {"ffn_down_shexp.weight", c.model_dim, m.shared_ffn_dim, true, &layer.shared_down}});
}

absl::Status FindFfn(Finder& finder, const ModelConfig& c, int32_t index, LayerViews& layer) {
  RETURN_IF_ERROR(
      FindParts(finder, index,
                {{"ffn_norm.weight", 1, c.model_dim, true, &layer.ffn_norm},
                 {"post_ffw_norm.weight", 1, c.model_dim, false, &layer.post_ffn_norm}}));
  if (c.moe.num_experts > 0) {
    RETURN_IF_ERROR(
        FindParts(finder, index,
                  {{"ffn_gate_inp.weight", c.moe.num_experts, c.model_dim, false, &layer.router}}));
    if (layer.router.data != nullptr) return FindExperts(finder, c, index, layer);
  }
  RETURN_IF_ERROR(FindParts(finder, index,
                            {{"ffn_gate.weight", c.ffn_dim, c.model_dim, false, &layer.gate},
                             {"ffn_down.weight", c.model_dim, c.ffn_dim, true, &layer.down}}));
  const int64_t up_rows = layer.gate.data != nullptr ? c.ffn_dim : 2 * int64_t{c.ffn_dim};
  return FindParts(finder, index, {{"ffn_up.weight", up_rows, c.model_dim, true, &layer.up}});
}

}  // namespace

absl::StatusOr<WeightViews> FindWeights(const TensorTable& table, const ModelConfig& config) {
  Finder finder(table);
  WeightViews weights;
  RETURN_IF_ERROR(finder.Find("token_embd.weight", config.vocab_size, config.model_dim, true,
                              weights.token_embd));
  for (int32_t i = 0; i < config.num_layers; ++i) {
    LayerViews& layer = weights.layers.emplace_back();
    RETURN_IF_ERROR(FindAttention(finder, config, i, layer));
    RETURN_IF_ERROR(FindFfn(finder, config, i, layer));
  }
  RETURN_IF_ERROR(
      finder.Find("output_norm.weight", 1, config.model_dim, true, weights.output_norm));
  RETURN_IF_ERROR(
      finder.Find("output.weight", config.vocab_size, config.model_dim, false, weights.head));
  for (const std::string_view name : kRopeTensors) finder.Use(name);
  RETURN_IF_ERROR(finder.CheckAllUsed());
  return weights;
}

}  // namespace sluice
