#include "model/model_share.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include "base/status_macros.h"

namespace sluice {
namespace {

// A rectangle of another matrix, whole blocks wide.
class MatrixSlice final : public WeightSource {
 public:
  MatrixSlice(const WeightView& whole, int64_t row_begin, int64_t col_begin, int64_t cols)
      : whole_(whole), row_begin_(row_begin) {
    const DTypeInfo info = GetDTypeInfo(whole.dtype);
    offset_bytes_ = static_cast<size_t>(col_begin / info.block_elements * info.block_bytes);
    bytes_ = static_cast<size_t>(cols / info.block_elements * info.block_bytes);
  }

  absl::Status MakeRows(int64_t begin, int64_t end, uint8_t* out) const override {
    const auto row_bytes = static_cast<size_t>(whole_.row_bytes());
    const auto first = static_cast<size_t>(row_begin_ + begin);
    const auto count = static_cast<size_t>(end - begin);
    const uint8_t* rows = static_cast<const uint8_t*>(whole_.data) + first * row_bytes;
    std::unique_ptr<uint8_t[]> made;
    if (whole_.source != nullptr) {
      made = std::make_unique_for_overwrite<uint8_t[]>(count * row_bytes);
      RETURN_IF_ERROR(whole_.source->MakeRows(row_begin_ + begin, row_begin_ + end, made.get()));
      rows = made.get();
    }
    for (size_t r = 0; r < count; ++r)
      std::memcpy(out + r * bytes_, rows + r * row_bytes + offset_bytes_, bytes_);
    return absl::OkStatus();
  }

  // Other ranks may still read the rest of these pages: they come back from the file.
  void Release(const std::function<void(std::span<const uint8_t> bytes)>& release) const override {
    if (whole_.source != nullptr) return whole_.source->Release(release);
    release({static_cast<const uint8_t*>(whole_.data),
             static_cast<size_t>(whole_.rows * whole_.row_bytes())});
  }

 private:
  const WeightView whole_;
  const int64_t row_begin_;
  size_t offset_bytes_ = 0, bytes_ = 0;  // of a row
};

// Cuts the weights of one rank. Views without data stay so.
class Cutter {
 public:
  Cutter(int32_t rank, int32_t num_ranks, std::vector<std::unique_ptr<WeightSource>>& slices)
      : rank_(rank), num_ranks_(num_ranks), slices_(slices) {}

  // Rows [begin, begin + count).
  WeightView Rows(const WeightView& whole, int64_t begin, int64_t count) {
    if (whole.data == nullptr) return whole;
    if (whole.source != nullptr) return Slice(whole, begin, count, 0, whole.cols);
    const auto* data = static_cast<const uint8_t*>(whole.data) + begin * whole.row_bytes();
    return {whole.dtype, count, whole.cols, data};
  }
  // Of a vector.
  WeightView Elements(const WeightView& whole, int64_t begin, int64_t count) {
    if (whole.data == nullptr) return whole;
    const auto* data =
        static_cast<const uint8_t*>(whole.data) + begin * GetDTypeInfo(whole.dtype).block_bytes;
    return {whole.dtype, 1, count, data};
  }
  // The rank's of equally many.
  WeightView RowsShare(const WeightView& whole) {
    const int64_t count = whole.rows / num_ranks_;
    return Rows(whole, rank_ * count, count);
  }
  WeightView ColumnsShare(const WeightView& whole) {
    if (whole.data == nullptr) return whole;
    const int64_t count = whole.cols / num_ranks_;
    return Slice(whole, 0, whole.rows, rank_ * count, count);
  }

 private:
  WeightView Slice(const WeightView& whole, int64_t row_begin, int64_t rows, int64_t col_begin,
                   int64_t cols) {
    slices_.push_back(std::make_unique<MatrixSlice>(whole, row_begin, col_begin, cols));
    return {whole.dtype, rows, cols, whole.data, slices_.back().get()};
  }

  const int32_t rank_, num_ranks_;
  std::vector<std::unique_ptr<WeightSource>>& slices_;
};

// First KV head of a rank; with more ranks than heads, neighbours have the same one.
int64_t KvHeadBegin(const ModelConfig& c, int32_t rank, int32_t num_ranks) {
  return int64_t{rank} * c.num_kv_heads / num_ranks;
}

void CutAttention(const ModelConfig& whole, const ModelConfig& share, int32_t rank,
                  int32_t num_ranks, Cutter& cut, LayerViews& l) {
  const int64_t q_begin = int64_t{rank} * share.q_cols();
  const int64_t kv_begin = KvHeadBegin(whole, rank, num_ranks) * whole.head_dim;
  if (l.qkv.data != nullptr) {
    const WeightView qkv = std::exchange(l.qkv, {});
    l.q = cut.Rows(qkv, q_begin, share.q_cols());
    l.k = cut.Rows(qkv, whole.q_cols() + kv_begin, share.kv_cols());
    l.v = cut.Rows(qkv, whole.q_cols() + whole.kv_cols() + kv_begin, share.kv_cols());
  } else {
    l.q = cut.Rows(l.q, q_begin, share.q_cols());
    l.k = cut.Rows(l.k, kv_begin, share.kv_cols());
    l.v = cut.Rows(l.v, kv_begin, share.kv_cols());
  }
  l.q_bias = cut.Elements(l.q_bias, q_begin, share.q_cols());
  l.k_bias = cut.Elements(l.k_bias, kv_begin, share.kv_cols());
  l.v_bias = cut.Elements(l.v_bias, kv_begin, share.kv_cols());
  l.o = cut.ColumnsShare(l.o);
}

void CutFfn(const ModelConfig& whole, const ModelConfig& share, int32_t rank, Cutter& cut,
            LayerViews& l) {
  if (l.router.data != nullptr) {
    for (auto* experts : {&l.gate_experts, &l.up_experts}) {
      for (WeightView& view : *experts) view = cut.RowsShare(view);
    }
    for (WeightView& view : l.down_experts) view = cut.ColumnsShare(view);
    l.shared_gate = cut.RowsShare(l.shared_gate);
    l.shared_up = cut.RowsShare(l.shared_up);
    l.shared_down = cut.ColumnsShare(l.shared_down);
    return;
  }
  const int64_t begin = int64_t{rank} * share.ffn_dim;
  if (l.gate.data == nullptr) {  // both are in up
    l.gate = cut.Rows(l.up, begin, share.ffn_dim);
    l.up = cut.Rows(l.up, whole.ffn_dim + begin, share.ffn_dim);
  } else {
    l.gate = cut.Rows(l.gate, begin, share.ffn_dim);
    l.up = cut.Rows(l.up, begin, share.ffn_dim);
  }
  l.down = cut.ColumnsShare(l.down);
}

absl::Status CheckColumns(const WeightView& view, std::string_view name, size_t layer,
                          int32_t num_ranks) {
  const DTypeInfo info = GetDTypeInfo(view.dtype);
  if (view.data == nullptr || view.cols % (int64_t{info.block_elements} * num_ranks) == 0)
    return absl::OkStatus();
  const std::string_view unit = info.block_elements == 1 ? "" : info.name;
  return absl::InvalidArgumentError(fmt::format(
      "{} of layer {} has {} columns{}; {} ranks cannot share them evenly", name, layer, view.cols,
      unit.empty() ? "" : fmt::format(" in {} blocks of {}", unit, info.block_elements),
      num_ranks));
}

}  // namespace

absl::Status CheckRanks(const ModelConfig& c, const WeightViews& weights, int32_t num_ranks) {
  if (num_ranks == 1) return absl::OkStatus();
  if (c.num_q_heads % num_ranks != 0 ||
      (c.num_kv_heads % num_ranks != 0 && num_ranks % c.num_kv_heads != 0)) {
    return absl::InvalidArgumentError(
        fmt::format("the model has {} query heads and {} KV heads; {} ranks cannot share them "
                    "evenly",
                    c.num_q_heads, c.num_kv_heads, num_ranks));
  }
  if (int64_t{ColumnsOfRank(c.vocab_size, num_ranks)} * (num_ranks - 1) >= c.vocab_size) {
    return absl::InvalidArgumentError(fmt::format(
        "a vocabulary of {} tokens is too small for {} ranks", c.vocab_size, num_ranks));
  }
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerViews& l = weights.layers[i];
    RETURN_IF_ERROR(CheckColumns(l.o, "o", i, num_ranks));
    RETURN_IF_ERROR(CheckColumns(l.down, "down", i, num_ranks));
    RETURN_IF_ERROR(CheckColumns(l.shared_down, "the shared expert's down", i, num_ranks));
    for (const WeightView& view : l.down_experts)
      RETURN_IF_ERROR(CheckColumns(view, "an expert's down", i, num_ranks));
  }
  return absl::OkStatus();
}

ModelConfig ConfigOfRank(const ModelConfig& config, int32_t num_ranks) {
  ModelConfig share = config;
  share.num_q_heads /= num_ranks;
  share.num_kv_heads = std::max(share.num_kv_heads / num_ranks, 1);
  share.ffn_dim /= num_ranks;
  share.moe.ffn_dim /= num_ranks;
  share.moe.shared_ffn_dim /= num_ranks;
  return share;
}

ModelShare ShareOfRank(const ModelConfig& config, const WeightViews& weights, int32_t rank,
                       int32_t num_ranks) {
  ModelShare share{ConfigOfRank(config, num_ranks), weights, {}};
  if (num_ranks == 1) return share;
  Cutter cut(rank, num_ranks, share.slices);
  for (LayerViews& layer : share.weights.layers) {
    CutAttention(config, share.config, rank, num_ranks, cut, layer);
    CutFfn(config, share.config, rank, cut, layer);
  }
  const int64_t columns = ColumnsOfRank(config.vocab_size, num_ranks), begin = rank * columns;
  share.weights.head = cut.Rows(weights.head, begin, std::min(columns, config.vocab_size - begin));
  return share;
}

int32_t ColumnsOfRank(int32_t vocab_size, int32_t num_ranks) {
  if (num_ranks == 1) return vocab_size;
  constexpr int32_t kMultiple = 16;
  const int32_t unit = kMultiple * num_ranks;
  return static_cast<int32_t>((int64_t{vocab_size} + unit - 1) / unit * kMultiple);
}

WeightView VocabOfRank(const WeightView& head, int32_t vocab_size, int32_t rank,
                       int32_t num_ranks) {
  if (num_ranks == 1) return head;
  std::vector<std::unique_ptr<WeightSource>> none;
  const int64_t columns = ColumnsOfRank(vocab_size, num_ranks), begin = rank * columns;
  return Cutter(rank, num_ranks, none)
      .Rows(head, begin, std::min<int64_t>(columns, vocab_size - begin));
}

}  // namespace sluice
