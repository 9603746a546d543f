#include "model/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status_macros.h"
#include "model/convert_metadata.h"
#include "model/gguf_config.h"
#include "model/gguf_encoder.h"
#include "model/gguf_writer.h"
#include "model/linear_loader.h"
#include "model/quantise.h"
#include "model/weight_source.h"

namespace sluice {
namespace {

constexpr int64_t kBytesAtOnce = 4 << 20;

struct Written {
  int64_t done = 0, all = 0;
};

// Where a row of a head whose rotating elements are halves (i, i + rope_dim/2) goes among pairs
// (2i, 2i + 1): the row of the source that stands at `row` of the file.
int64_t SourceRow(int64_t row, int32_t head_dim, int32_t rope_dim) {
  const int64_t in_head = row % head_dim;
  if (in_head >= rope_dim) return row;
  return row - in_head + in_head / 2 + in_head % 2 * (rope_dim / 2);
}

class Converter {
 public:
  Converter(const ModelFile& model, const ConvertOptions& options)
      : model_(model), options_(options) {}

  absl::Status Run(const std::string& path) {
    GgufWriter writer;
    if (model_.gguf != nullptr) {
      CopyMetadata(*model_.gguf, options_.quantise, writer);
    } else {
      RETURN_IF_ERROR(
          WriteMetadata(model_, options_.quantise, options_.pre_tokenizer_name, writer));
    }
    AddTensors(writer);
    return writer.Write(path, [&](const std::string& file) { return Check(path, file); });
  }

 private:
  // Whether `file`, which is to become `path`, is this model.
  [[nodiscard]] absl::Status Check(const std::string& path, const std::string& file) const {
    ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> made, GgufFile::Open(file));
    if (model_.gguf == nullptr) {
      RETURN_IF_ERROR(CheckSameTokenizer(model_.tensors().source, model_.info.tokenizer, *made));
    }
    if (model_.encoder.has_value()) {
      ASSIGN_OR_RETURN(const GgufEncoder encoder, ReadGgufEncoder(*made));
      RETURN_IF_ERROR(FindEncoder(made->tensors(), encoder.config).status());
      if (encoder.config == model_.encoder->config) return absl::OkStatus();
      return absl::UnimplementedError(fmt::format(
          "{}: GGUF has no keys for this encoder's numbers; the file was not made", path));
    }
    ASSIGN_OR_RETURN(const ModelConfig config, ReadGgufConfig(*made));
    RETURN_IF_ERROR(FindWeights(made->tensors(), config).status());
    return CheckSameConfig(path, model_.config, config);
  }

  // One tensor of the file from one or, for experts, several of the table.
  void AddTensors(GgufWriter& writer) {
    const std::vector<ModelTensor>& tensors = model_.tensors().tensors;
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::vector<const ModelTensor*> parts = {&tensors[i]};
      std::string name(tensors[i].name);
      if (const std::string stem = ExpertStem(name); !stem.empty()) {
        // All experts of a stem go where the first of them stands.
        if (name != stem + ".0.weight") continue;
        for (int32_t e = 1; e < model_.config.moe.num_experts; ++e) {
          parts.push_back(model_.tensors().Find(fmt::format("{}.{}.weight", stem, e)));
        }
        name = stem + "_exps.weight";
      }
      GgufTensorSource out{.name = name, .dtype = TypeOf(tensors[i])};
      out.num_dims = tensors[i].num_dims;
      std::copy_n(tensors[i].dims, kMaxTensorDims, out.dims);
      if (parts.size() > 1) {
        out.num_dims = 3;
        out.dims[2] = static_cast<int64_t>(parts.size());
      }
      written_.all += out.num_bytes();
      out.write = [this, parts, type = out.dtype](const GgufSink& sink) -> absl::Status {
        for (const ModelTensor* part : parts) RETURN_IF_ERROR(WriteTensor(*part, type, sink));
        return absl::OkStatus();
      };
      writer.Add(std::move(out));
    }
  }

  // "blk.0.ffn_up" of "blk.0.ffn_up.7.weight"; empty for any other name.
  static std::string ExpertStem(std::string_view name) {
    if (!name.ends_with(".weight") || !name.starts_with("blk.")) return {};
    name.remove_suffix(std::string_view(".weight").size());
    const size_t dot = name.rfind('.');
    const std::string_view number = name.substr(dot + 1);
    const bool is_number =
        !number.empty() && std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; });
    return is_number ? std::string(name.substr(0, dot)) : std::string();
  }

  [[nodiscard]] DType TypeOf(const ModelTensor& tensor) const {
    const std::string_view name = tensor.name;
    if (model_.encoder.has_value()) {
      const bool is_layer = tensor.num_dims == 2 && name.starts_with("blk.");
      return is_layer ? RoundedType(MatrixOf(tensor), LinearRole::kPlain, options_.quantise)
                      : tensor.dtype;
    }
    const bool tied = model_.weights.head.data == nullptr;
    const bool embedding = name == "token_embd.weight";
    if (tensor.num_dims < 2 || (embedding && !tied)) return tensor.dtype;
    const LinearRole role = embedding || name == "output.weight" ? LinearRole::kHead
                            : name.find("ffn_gate_inp") != std::string_view::npos
                                ? LinearRole::kRouter
                                : LinearRole::kPlain;
    return RoundedType(MatrixOf(tensor), role, options_.quantise);
  }

  static WeightView MatrixOf(const ModelTensor& tensor) {
    return {tensor.dtype, tensor.dims[1] * tensor.dims[2] * tensor.dims[3], tensor.dims[0],
            tensor.data, tensor.source};
  }

  // q and k of a folder have their rotating elements as halves; GGUF's llama has them as pairs.
  [[nodiscard]] bool IsReordered(const ModelTensor& tensor) const {
    if (model_.folder == nullptr || model_.config.architecture != "llama") return false;
    for (const std::string_view part :
         {".attn_q.weight", ".attn_k.weight", ".attn_q.bias", ".attn_k.bias"}) {
      if (tensor.name.ends_with(part)) return true;
    }
    return false;
  }

  absl::Status WriteTensor(const ModelTensor& tensor, DType type, const GgufSink& sink) {
    WeightView all = MatrixOf(tensor);
    const bool reordered = IsReordered(tensor);
    // A bias has an element where its matrix has a row.
    if (reordered && tensor.num_dims == 1) std::swap(all.rows, all.cols);
    int64_t rows_at_once = std::max<int64_t>(kBytesAtOnce / all.row_bytes(), 1);
    if (reordered) {  // whole heads
      const int64_t head = model_.config.head_dim;
      rows_at_once = (rows_at_once + head - 1) / head * head;
    }
    for (int64_t begin = 0; begin < all.rows; begin += rows_at_once) {
      const int64_t end = std::min(begin + rows_at_once, all.rows);
      ASSIGN_OR_RETURN(WeightView rows, RowsOf(all, begin, end));
      if (reordered) rows = Reorder(rows);
      RETURN_IF_ERROR(WriteRows(tensor, rows, type, sink));
    }
    const auto release = [&](std::span<const uint8_t> bytes) { model_.ReleasePages(bytes); };
    if (tensor.source != nullptr) {
      tensor.source->Release(release);
    } else {
      release({tensor.data, static_cast<size_t>(tensor.num_bytes)});
    }
    return absl::OkStatus();
  }

  // Rows [begin, end), until the next call.
  absl::StatusOr<WeightView> RowsOf(const WeightView& all, int64_t begin, int64_t end) {
    WeightView rows{all.dtype, end - begin, all.cols};
    rows.data = static_cast<const uint8_t*>(all.data) + begin * all.row_bytes();
    if (all.source != nullptr) {
      made_.resize(static_cast<size_t>(rows.rows * rows.row_bytes()));
      RETURN_IF_ERROR(MakeRows(all, begin, end, options_.threads, made_.data()));
      rows.data = made_.data();
    }
    return rows;
  }

  // Rows of whole heads in GGUF's order, until the next call.
  WeightView Reorder(WeightView rows) {
    const auto row_bytes = static_cast<size_t>(rows.row_bytes());
    const auto* data = static_cast<const uint8_t*>(rows.data);
    gathered_.resize(static_cast<size_t>(rows.rows) * row_bytes);
    for (int64_t r = 0; r < rows.rows; ++r) {
      const int64_t from = SourceRow(r, model_.config.head_dim, model_.config.rope.dim);
      std::memcpy(gathered_.data() + static_cast<size_t>(r) * row_bytes,
                  data + static_cast<size_t>(from) * row_bytes, row_bytes);
    }
    rows.data = gathered_.data();
    return rows;
  }

  absl::Status WriteRows(const ModelTensor& tensor, const WeightView& rows, DType type,
                         const GgufSink& sink) {
    WeightView out = rows;
    if (type != rows.dtype) {
      out.dtype = type;
      rounded_.resize(static_cast<size_t>(out.rows * out.row_bytes()));
      const absl::Status status = QuantiseRows(rows, type, options_.threads, rounded_.data());
      if (!status.ok()) {
        return absl::InvalidArgumentError(
            fmt::format("{}: tensor '{}': {}", model_.tensors().source,
                        QuoteForMessage(tensor.name), std::string(status.message())));
      }
      out.data = rounded_.data();
    }
    const auto size = static_cast<size_t>(out.rows * out.row_bytes());
    RETURN_IF_ERROR(sink({static_cast<const uint8_t*>(out.data), size}));
    written_.done += static_cast<int64_t>(size);
    if (options_.progress) options_.progress(written_.done, written_.all);
    return absl::OkStatus();
  }

  const ModelFile& model_;
  const ConvertOptions& options_;
  Written written_;
  std::vector<uint8_t> made_, gathered_, rounded_;
};

}  // namespace

absl::Status ConvertToGguf(const ModelFile& model, const std::string& path,
                           const ConvertOptions& options) {
  return Converter(model, options).Run(path);
}

}  // namespace sluice
