#include "model/encoder_views.h"

#include <fmt/format.h>

#include <set>
#include <string>
#include <string_view>

#include "base/status_macros.h"

namespace sluice {
namespace {

class Finder {
 public:
  explicit Finder(const TensorTable& table) : table_(table) {}

  // The tensor as rows x cols. A vector has rows = 1, in one dimension or in two.
  absl::Status Find(const std::string& name, int64_t rows, int64_t cols, WeightView& view) {
    const ModelTensor* tensor = table_.Find(name);
    if (tensor == nullptr) {
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' is missing", table_.source, name));
    }
    used_.insert(tensor->name);
    if (tensor->num_dims > 2 || tensor->dims[0] != cols || tensor->dims[1] != rows) {
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' has shape {}; it must be [{}, {}]", table_.source, name,
                      tensor->ShapeString(), cols, rows));
    }
    view = {tensor->dtype, rows, cols, tensor->data};
    return absl::OkStatus();
  }
  absl::Status FindLinear(const std::string& name, int64_t rows, int64_t cols, BiasedView& view) {
    RETURN_IF_ERROR(Find(name + ".weight", rows, cols, view.weight));
    return Find(name + ".bias", 1, rows, view.bias);
  }
  absl::Status FindNorm(const std::string& name, int64_t cols, BiasedView& view) {
    RETURN_IF_ERROR(Find(name + ".weight", 1, cols, view.weight));
    return Find(name + ".bias", 1, cols, view.bias);
  }
  absl::Status CheckAllUsed() const {
    for (const ModelTensor& tensor : table_.tensors) {
      if (used_.contains(tensor.name)) continue;
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' has no place in this architecture", table_.source,
                      QuoteForMessage(tensor.name)));
    }
    return absl::OkStatus();
  }

 private:
  const TensorTable& table_;
  std::set<std::string_view> used_;
};

absl::Status FindLayer(Finder& finder, int32_t index, const EncoderConfig& c,
                       EncoderLayerViews& layer) {
  const std::string prefix = fmt::format("blk.{}.", index);
  const int64_t d = c.model_dim, f = c.ffn_dim;
  RETURN_IF_ERROR(finder.FindLinear(prefix + "attn_q", d, d, layer.q));
  RETURN_IF_ERROR(finder.FindLinear(prefix + "attn_k", d, d, layer.k));
  RETURN_IF_ERROR(finder.FindLinear(prefix + "attn_v", d, d, layer.v));
  RETURN_IF_ERROR(finder.FindLinear(prefix + "attn_output", d, d, layer.o));
  RETURN_IF_ERROR(finder.FindNorm(prefix + "attn_output_norm", d, layer.attn_norm));
  RETURN_IF_ERROR(finder.FindLinear(prefix + "ffn_up", f, d, layer.up));
  RETURN_IF_ERROR(finder.FindLinear(prefix + "ffn_down", d, f, layer.down));
  return finder.FindNorm(prefix + "layer_output_norm", d, layer.ffn_norm);
}

}  // namespace

absl::StatusOr<EncoderViews> FindEncoder(const TensorTable& table, const EncoderConfig& c) {
  EncoderViews views;
  Finder finder(table);
  RETURN_IF_ERROR(finder.Find("token_embd.weight", c.vocab_size, c.model_dim, views.token_embd));
  RETURN_IF_ERROR(
      finder.Find("position_embd.weight", c.max_positions, c.model_dim, views.position_embd));
  RETURN_IF_ERROR(finder.Find("token_types.weight", c.num_types, c.model_dim, views.type_embd));
  RETURN_IF_ERROR(finder.FindNorm("token_embd_norm", c.model_dim, views.embd_norm));
  for (int32_t l = 0; l < c.num_layers; ++l)
    RETURN_IF_ERROR(FindLayer(finder, l, c, views.layers.emplace_back()));
  if (c.num_labels > 0) {
    RETURN_IF_ERROR(finder.FindLinear("cls", c.model_dim, c.model_dim, views.pooler));
    RETURN_IF_ERROR(finder.FindLinear("cls.output", c.num_labels, c.model_dim, views.classifier));
  }
  RETURN_IF_ERROR(finder.CheckAllUsed());
  return views;
}

}  // namespace sluice
