#include "model/inspect.h"

#include <fmt/format.h>

#include <iterator>
#include <map>
#include <string_view>

#include "kernels/view.h"
#include "model/transformer.h"

namespace sluice {
namespace {

std::string Bytes(int64_t bytes) {
  if (bytes < 1 << 20) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / (1 << 10));
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

// The value of a text key, or "-".
std::string TextOf(const GgufFile& file, std::string_view key) {
  const auto text = file.GetString(key);
  return text.ok() ? QuoteForMessage(*text) : "-";
}

std::string Token(const TokenizerData& tokenizer, TokenId id) {
  if (id < 0) return "none";
  return fmt::format("{} '{}'", id, QuoteForMessage(tokenizer.tokens[id]));
}

void AppendTensors(const TensorTable& table, std::string& out) {
  struct Sum {
    int64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<std::string_view, Sum> by_type;
  Sum all;
  for (const ModelTensor& tensor : table.tensors) {
    int64_t elements = 1;
    for (const int64_t dim : tensor.dims) elements *= dim;
    for (Sum* sum : {&by_type[GetDTypeInfo(tensor.dtype).name], &all}) {
      sum->tensors += 1;
      sum->elements += elements;
      sum->bytes += tensor.num_bytes;
    }
  }
  fmt::format_to(std::back_inserter(out), "tensors          {} with {} elements in {}\n",
                 all.tensors, all.elements, Bytes(all.bytes));
  for (const auto& [type, sum] : by_type) {
    fmt::format_to(std::back_inserter(out), "  {:<14} {} with {} elements in {}\n", type,
                   sum.tensors, sum.elements, Bytes(sum.bytes));
  }
}

void AppendTokenizer(const ModelInfo& info, std::string& out) {
  const TokenizerData& t = info.tokenizer;
  fmt::format_to(std::back_inserter(out),
                 "tokenizer        {}, pre-tokenizer {}, {} tokens, {} merges\n"
                 "  bos            {}\n  eos            {}\n",
                 QuoteForMessage(t.model),
                 t.pre_tokenizer.empty() ? "of its own" : QuoteForMessage(t.pre_tokenizer),
                 t.tokens.size(), t.merges.size(), Token(t, t.bos), Token(t, t.eos));
  const std::string_view text = info.chat_template;
  if (text.empty()) {
    out += "chat template    none\n";
  } else {
    fmt::format_to(std::back_inserter(out), "chat template    {} bytes: {}\n", text.size(),
                   QuoteForMessage(text.substr(0, text.find('\n'))));
  }
}

void AppendEncoder(const EncoderFile& encoder, const ModelInfo& info, std::string& out) {
  constexpr std::string_view kPoolings[] = {"first token", "last token", "mean"};
  const EncoderConfig& c = encoder.config;
  const std::string gives = c.num_labels > 0
                                ? fmt::format("{} scores of a pair of texts", c.num_labels)
                                : fmt::format("vectors of {}, {}{}", c.model_dim,
                                              kPoolings[static_cast<size_t>(c.pooling)],
                                              c.normalise ? ", of length 1" : "");
  fmt::format_to(std::back_inserter(out),
                 "heads            {}, {} elements each\ncontext          {} tokens\n"
                 "gives            {}\n",
                 c.num_heads, c.head_dim(), info.max_model_len, gives);
}

// A line, or nothing.
std::string Quantisation(const HfConfig& config) {
  if (!config.quantisation.has_value()) return {};
  return fmt::format("quantization     {}\n", config.quantisation->summary);
}

// Where the model lies and what its maker says of it.
std::string Origin(const ModelFile& model) {
  const std::string hash = model.info.hash;
  if (model.folder != nullptr) {
    const HfFolder& folder = *model.folder;
    return fmt::format(
        "folder           {}\nformat           safetensors in {} files, {}, hash {}\n"
        "name             {}\nclass            {}\n{}",
        folder.path(), folder.num_files(), Bytes(folder.num_bytes()), hash,
        QuoteForMessage(model.info.name), folder.config().class_name,
        Quantisation(folder.config()));
  }
  if (model.bert != nullptr) {
    return fmt::format(
        "folder           {}\nformat           safetensors, {}, hash {}\n"
        "name             {}\n",
        model.tensors().source, Bytes(model.num_bytes()), hash, QuoteForMessage(model.info.name));
  }
  const GgufFile& file = *model.gguf;
  return fmt::format(
      "file             {}\nformat           GGUF {}{}, {}, hash {}\n"
      "name             {}\nlicense          {}\n",
      file.name(), file.version(),
      file.num_parts() > 1 ? fmt::format(" in {} files", file.num_parts()) : "",
      Bytes(file.num_bytes()), hash, TextOf(file, "general.name"), TextOf(file, "general.license"));
}

}  // namespace

std::string InspectModel(const ModelFile& model, int32_t max_step_tokens, int32_t max_rows) {
  const ModelConfig& c = model.config;
  std::string out = Origin(model);
  auto to = std::back_inserter(out);
  fmt::format_to(to, "architecture     {}\n", c.architecture);
  const bool encoder = model.encoder.has_value();
  fmt::format_to(
      to, "layers           {}\nmodel dim        {}\nFFN dim          {}\nvocabulary       {}{}\n",
      c.num_layers, c.model_dim, c.ffn_dim, c.vocab_size,
      !encoder && model.weights.head.data == nullptr ? ", head tied to the embedding" : "");
  if (encoder) {
    AppendEncoder(*model.encoder, model.info, out);
    AppendTensors(model.tensors(), out);
    AppendTokenizer(model.info, out);
    return out;
  }
  fmt::format_to(to,
                 "heads            {} query, {} KV, {} elements each\ncontext          {} tokens, "
                 "rope theta {}\n",
                 c.num_q_heads, c.num_kv_heads, c.head_dim, c.max_context, c.rope.theta);
  AppendTensors(model.tensors(), out);
  AppendTokenizer(model.info, out);

  int64_t weight_bytes = 0;
  for (const ModelTensor& tensor : model.tensors().tensors) weight_bytes += tensor.num_bytes;
  const int64_t kv_token_bytes =
      int64_t{2} * 2 * c.kv_cols() * c.num_layers;  // keys and values, 2 bytes each
  fmt::format_to(to,
                 "memory           weights {}, KV {} a token ({} for a full context), activations "
                 "{} for {} tokens in {} rows\n",
                 Bytes(weight_bytes), Bytes(kv_token_bytes), Bytes(kv_token_bytes * c.max_context),
                 Bytes(Transformer::ActivationBytes(c, max_step_tokens, max_rows)), max_step_tokens,
                 max_rows);
  return out;
}

}  // namespace sluice
