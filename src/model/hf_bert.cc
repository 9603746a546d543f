#include "model/hf_bert.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "base/status_macros.h"
#include "kernels/half.h"
#include "model/hf_shards.h"
#include "model/hf_tokenizer.h"
#include "model/mapped_file.h"
#include "model/model_limits.h"

namespace sluice {
namespace {

constexpr int64_t kMaxJsonBytes = 1 << 20;
constexpr std::string_view kClasses[] = {"BertModel", "BertForMaskedLM",
                                         "BertForSequenceClassification"};
constexpr std::string_view kScoreClass = "BertForSequenceClassification";
constexpr int64_t kMaxTypes = 16;

using NamePair = std::pair<std::string_view, std::string_view>;
constexpr NamePair kTopNames[] = {
    {"embeddings.word_embeddings.weight", "token_embd.weight"},
    {"embeddings.position_embeddings.weight", "position_embd.weight"},
    {"embeddings.token_type_embeddings.weight", "token_types.weight"},
    {"embeddings.LayerNorm.weight", "token_embd_norm.weight"},
    {"embeddings.LayerNorm.bias", "token_embd_norm.bias"},
};
constexpr NamePair kHeadNames[] = {
    {"pooler.dense.weight", "cls.weight"},
    {"pooler.dense.bias", "cls.bias"},
    {"classifier.weight", "cls.output.weight"},
    {"classifier.bias", "cls.output.bias"},
};
constexpr NamePair kLayerNames[] = {
    {"attention.self.query", "attn_q"},
    {"attention.self.key", "attn_k"},
    {"attention.self.value", "attn_v"},
    {"attention.output.dense", "attn_output"},
    {"attention.output.LayerNorm", "attn_output_norm"},
    {"intermediate.dense", "ffn_up"},
    {"output.dense", "ffn_down"},
    {"output.LayerNorm", "layer_output_norm"},
};

std::optional<std::string_view> Lookup(std::span<const NamePair> names, std::string_view name) {
  const auto it = std::ranges::find(names, name, &NamePair::first);
  return it == names.end() ? std::nullopt : std::optional(it->second);
}

// "encoder.layer.3.output.dense.weight": "blk.3.ffn_down.weight".
std::optional<std::string> LayerName(std::string_view name) {
  constexpr std::string_view kPrefix = "encoder.layer.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int layer = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  name.remove_prefix(static_cast<size_t>(end + 1 - name.data()));
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto part = Lookup(kLayerNames, name.substr(0, dot));
  if (!part) return std::nullopt;
  return fmt::format("blk.{}.{}{}", layer, *part, name.substr(dot));
}

// The oldest exporters call a norm's weight and bias by their Greek names.
std::string ModernName(std::string_view name) {
  for (const auto& [old, modern] :
       {std::pair<std::string_view, std::string_view>{"LayerNorm.gamma", "LayerNorm.weight"},
        {"LayerNorm.beta", "LayerNorm.bias"}}) {
    if (name.ends_with(old))
      return std::string(name.substr(0, name.size() - old.size())).append(modern);
  }
  return std::string(name);
}

absl::StatusOr<DType> TypeOf(const SafetensorsFile& file, const SafetensorsTensor& tensor) {
  switch (tensor.type) {
    case SafetensorsType::kF32:
      return DType::kF32;
    case SafetensorsType::kF16:
      return DType::kF16;
    case SafetensorsType::kBF16:
      return DType::kBF16;
    default:
      return absl::UnimplementedError(
          fmt::format("{}: tensor '{}' has type {}; supported types are F32, F16, BF16",
                      file.name(), QuoteForMessage(tensor.name), SafetensorsTypeName(tensor.type)));
  }
}

// What is loaded as a vector, and what other readers of GGUF want as F32.
bool IsVector(const ModelTensor& tensor) {
  return tensor.num_dims == 1 || tensor.name == "position_embd.weight" ||
         tensor.name == "token_types.weight";
}

float FloatAt(const ModelTensor& tensor, int64_t i) {
  uint16_t half = 0;
  std::memcpy(&half, tensor.data + 2 * i, 2);
  return tensor.dtype == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
}

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

absl::Status NeedValue(const HfObject& root, std::string_view key, std::string_view wanted) {
  ASSIGN_OR_RETURN(const std::string_view value, root.GetStringOr(key, wanted));
  if (value == wanted) return absl::OkStatus();
  return root.Unsupported(key,
                          fmt::format("is '{}'; supported: '{}'", QuoteForMessage(value), wanted));
}

absl::StatusOr<Pooling> ReadPooling(const HfObject& root) {
  constexpr std::pair<std::string_view, Pooling> kModes[] = {
      {"pooling_mode_mean_tokens", Pooling::kMean},
      {"pooling_mode_cls_token", Pooling::kFirst},
      {"pooling_mode_lasttoken", Pooling::kLast}};
  std::optional<Pooling> pooling;
  for (const auto& [key, mode] : kModes) {
    ASSIGN_OR_RETURN(const bool chosen, root.GetBoolOr(key, false));
    if (!chosen) continue;
    if (pooling) return root.Unsupported(key, "is one of several poolings; one is supported");
    pooling = mode;
  }
  if (pooling) return *pooling;
  return root.Unsupported("pooling_mode_mean_tokens",
                          "is false; supported poolings are mean, cls and last token");
}

}  // namespace

bool IsBertFolder(const HfObject& root) {
  const auto classes = root.GetStrings("architectures", 16);
  return classes.ok() && !classes->empty() &&
         std::ranges::find(kClasses, classes->front()) != std::end(kClasses);
}

std::string BertFolder::File(std::string_view name) const {
  return (std::filesystem::path(path_) / name).string();
}

absl::StatusOr<std::unique_ptr<BertFolder>> BertFolder::Open(const std::string& path) {
  auto folder = std::unique_ptr<BertFolder>(new BertFolder(path));
  ASSIGN_OR_RETURN(const HfJson json, HfJson::Open(folder->File("config.json"), kMaxJsonBytes));
  RETURN_IF_ERROR(folder->ReadConfig(json.root()));
  RETURN_IF_ERROR(folder->ReadSentenceTransformers());
  ASSIGN_OR_RETURN(folder->files_, OpenTensorFiles(path));
  RETURN_IF_ERROR(folder->NameTensors());
  return folder;
}

absl::Status BertFolder::ReadConfig(const HfObject& root) {
  const struct {
    std::string_view key;
    int64_t max;
    int32_t* out;
  } kNumbers[] = {{"hidden_size", kMaxModelDim, &config_.model_dim},
                  {"intermediate_size", kMaxFfnDim, &config_.ffn_dim},
                  {"vocab_size", kMaxVocab, &config_.vocab_size},
                  {"num_hidden_layers", kMaxLayers, &config_.num_layers},
                  {"num_attention_heads", kMaxHeads, &config_.num_heads},
                  {"max_position_embeddings", 1 << 20, &config_.max_positions},
                  {"type_vocab_size", kMaxTypes, &config_.num_types}};
  for (const auto& number : kNumbers) {
    ASSIGN_OR_RETURN(const int64_t value, root.GetInt(number.key, 1, number.max));
    *number.out = static_cast<int32_t>(value);
  }
  ASSIGN_OR_RETURN(const double eps, root.GetFloatOr("layer_norm_eps", 1e-15, 1, 1e-12));
  config_.norm_eps = static_cast<float>(eps);
  if (config_.model_dim % config_.num_heads != 0 || config_.head_dim() > kMaxHeadDim) {
    return root.KeyError(
        "num_attention_heads",
        fmt::format("is {}; it must divide the hidden size {} into heads of at most {}",
                    config_.num_heads, config_.model_dim, kMaxHeadDim));
  }
  if (int64_t{config_.max_positions} * config_.model_dim > kMaxContext * 8) {
    return root.KeyError("max_position_embeddings",
                         fmt::format("is {}; that is too large for a hidden size of {}",
                                     config_.max_positions, config_.model_dim));
  }
  RETURN_IF_ERROR(NeedValue(root, "hidden_act", "gelu"));
  RETURN_IF_ERROR(NeedValue(root, "position_embedding_type", "absolute"));
  max_model_len_ = config_.max_positions;
  ASSIGN_OR_RETURN(const auto classes, root.GetStrings("architectures", 16));
  if (classes.front() == kScoreClass) config_.num_labels = 1;  // the tensor says how many
  return absl::OkStatus();
}

// Without these files: mean, and vectors of length 1.
absl::Status BertFolder::ReadSentenceTransformers() {
  if (const std::string pooling = File("1_Pooling/config.json"); Exists(pooling)) {
    ASSIGN_OR_RETURN(const HfJson json, HfJson::Open(pooling, kMaxJsonBytes));
    ASSIGN_OR_RETURN(config_.pooling, ReadPooling(json.root()));
  }
  if (const std::string modules = File("modules.json"); Exists(modules)) {
    // A list, which HfJson does not read; all that counts is whether one type is in it.
    ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(modules));
    const auto bytes = file.bytes();
    if (bytes.size() > static_cast<size_t>(kMaxJsonBytes)) {
      return absl::InvalidArgumentError(fmt::format("{}: has {} bytes; at most {} are allowed",
                                                    modules, bytes.size(), kMaxJsonBytes));
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    config_.normalise = text.find(".Normalize\"") != std::string_view::npos;
  }
  if (const std::string limits = File("sentence_bert_config.json"); Exists(limits)) {
    ASSIGN_OR_RETURN(const HfJson json, HfJson::Open(limits, kMaxJsonBytes));
    ASSIGN_OR_RETURN(const int64_t len,
                     json.root().GetIntOr("max_seq_length", 1, kMaxContext, max_model_len_));
    max_model_len_ = static_cast<int32_t>(std::min<int64_t>(len, max_model_len_));
  }
  return absl::OkStatus();
}

absl::Status BertFolder::NameTensorsOf(const SafetensorsFile& file) {
  const bool scores = config_.num_labels > 0;
  for (const SafetensorsTensor& tensor : file.tensors()) {
    const std::string modern = ModernName(tensor.name);
    std::string_view name = modern;
    if (name.starts_with("bert.")) name.remove_prefix(5);
    // A head for another task, and positions that are their own index.
    const bool other_head = name.starts_with("cls.") || name.starts_with("pooler.");
    if (name == "embeddings.position_ids" || (other_head && !scores)) continue;
    std::optional<std::string> place = LayerName(name);
    if (const auto top = Lookup(kTopNames, name)) place = *top;
    if (const auto head = Lookup(kHeadNames, name); head && scores) place = *head;
    if (!place || tensor.num_dims < 1 || tensor.num_dims > 2 || tensor.num_bytes == 0) {
      return absl::InvalidArgumentError(
          fmt::format("{}: tensor '{}' has no place in a BERT encoder", file.name(),
                      QuoteForMessage(tensor.name)));
    }
    ModelTensor named;
    ASSIGN_OR_RETURN(named.dtype, TypeOf(file, tensor));
    named.name = names_.emplace_back(*std::move(place));
    named.num_dims = tensor.num_dims;
    for (int i = 0; i < tensor.num_dims; ++i) named.dims[i] = tensor.dims[tensor.num_dims - 1 - i];
    named.data = tensor.data;
    named.num_bytes = tensor.num_bytes;
    Place(named);
  }
  return absl::OkStatus();
}

absl::Status BertFolder::NameTensors() {
  table_.source = path_;
  for (const SafetensorsFile& file : files_) RETURN_IF_ERROR(NameTensorsOf(file));
  std::ranges::sort(table_.tensors, {}, &ModelTensor::name);
  const auto twin = std::ranges::adjacent_find(table_.tensors, {}, &ModelTensor::name);
  if (twin != table_.tensors.end()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: two tensors are '{}' of the model", path_, QuoteForMessage(twin->name)));
  }
  if (const ModelTensor* classifier = table_.Find("cls.output.weight"); classifier != nullptr) {
    constexpr int64_t kMaxLabels = 1 << 16;
    config_.num_labels = static_cast<int32_t>(std::min(classifier->dims[1], kMaxLabels));
  }
  return absl::OkStatus();
}

void BertFolder::Place(ModelTensor tensor) {
  if (IsVector(tensor) && tensor.dtype != DType::kF32) {
    const int64_t size = tensor.dims[0] * tensor.dims[1];
    floats_.push_back(std::make_unique_for_overwrite<float[]>(static_cast<size_t>(size)));
    for (int64_t i = 0; i < size; ++i) floats_.back()[static_cast<size_t>(i)] = FloatAt(tensor, i);
    tensor.dtype = DType::kF32;
    tensor.data = reinterpret_cast<const uint8_t*>(floats_.back().get());
    tensor.num_bytes = size * static_cast<int64_t>(sizeof(float));
  }
  const auto element = static_cast<size_t>(GetDTypeInfo(tensor.dtype).block_bytes);
  if (reinterpret_cast<uintptr_t>(tensor.data) % element != 0) {
    const auto size = static_cast<size_t>(tensor.num_bytes);
    realigned_.push_back(std::make_unique_for_overwrite<uint8_t[]>(size));
    std::memcpy(realigned_.back().get(), tensor.data, size);
    tensor.data = realigned_.back().get();
  }
  table_.tensors.push_back(tensor);
}

absl::StatusOr<ModelInfo> BertFolder::ReadInfo() const {
  ModelInfo info;
  const std::filesystem::path absolute = std::filesystem::absolute(path_).lexically_normal();
  // "dir/name/" has an empty last part.
  info.name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
  info.architecture = "bert";
  std::string headers;
  for (const SafetensorsFile& file : files_) headers += file.header();
  const XXH128_hash_t hash = XXH3_128bits(headers.data(), headers.size());
  info.hash = fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  info.vocab_size = config_.vocab_size;
  info.max_model_len = max_model_len_;
  ASSIGN_OR_RETURN(info.tokenizer, ReadHfTokenizer(path_, config_.vocab_size));
  info.task = config_.num_labels > 0 ? ModelTask::kScore : ModelTask::kEmbed;
  info.vector_dim = config_.output_dim();
  info.normalise = config_.normalise;
  return info;
}

}  // namespace sluice
