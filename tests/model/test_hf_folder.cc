#include "tests/model/test_hf_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <stdlib.h>

#include <bit>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fstream>
#include <random>
#include <vector>

#include "base/check.h"

namespace sluice {
namespace {

constexpr int64_t kDim = 32, kFfn = 64, kVocab = 48, kLayers = 2, kHeads = 4, kKvHeads = 2,
                  kHeadDim = 8, kExperts = 4, kExpertFfn = 32;

class Builder {
 public:
  Builder(TestSafetensors& out, std::string_view dtype) : out_(out), dtype_(dtype) {}

  void Add(const std::string& name, std::vector<int64_t> shape, float scale, float mean = 0) {
    int64_t size = 1;
    for (const int64_t dim : shape) size *= dim;
    std::string data;
    for (int64_t i = 0; i < size; ++i) {
      // The same on every platform, and exact in bf16.
      const auto level = static_cast<float>(static_cast<int>(random_() % 255) - 127);
      const float value = mean + scale * level / 128;
      const auto bits = std::bit_cast<uint32_t>(value);
      const char* bytes = reinterpret_cast<const char*>(&bits);
      dtype_ == "BF16" ? data.append(bytes + 2, 2) : data.append(bytes, 4);
    }
    out_.tensors.push_back({name, dtype_, std::move(shape), std::move(data), {}});
  }

 private:
  TestSafetensors& out_;
  const std::string dtype_;
  std::mt19937 random_{1};
};

void AddFfn(Builder& b, const std::string& prefix, bool fused, int64_t ffn) {
  if (fused) {
    b.Add(prefix + "gate_up_proj.weight", {2 * ffn, kDim}, 0.25F);
  } else {
    b.Add(prefix + "gate_proj.weight", {ffn, kDim}, 0.25F);
    b.Add(prefix + "up_proj.weight", {ffn, kDim}, 0.25F);
  }
  b.Add(prefix + "down_proj.weight", {kDim, ffn}, 0.25F);
}

void AddExperts(Builder& b, const std::string& layer, std::string_view class_name) {
  if (class_name.starts_with("Mixtral")) {
    b.Add(layer + "block_sparse_moe.gate.weight", {kExperts, kDim}, 1);
    for (int64_t e = 0; e < kExperts; ++e) {
      const std::string expert = fmt::format("{}block_sparse_moe.experts.{}.", layer, e);
      b.Add(expert + "w1.weight", {kFfn, kDim}, 0.25F);
      b.Add(expert + "w2.weight", {kDim, kFfn}, 0.25F);
      b.Add(expert + "w3.weight", {kFfn, kDim}, 0.25F);
    }
    return;
  }
  b.Add(layer + "mlp.gate.weight", {kExperts, kDim}, 1);
  for (int64_t e = 0; e < kExperts; ++e) {
    AddFfn(b, fmt::format("{}mlp.experts.{}.", layer, e), false, kExpertFfn);
  }
  if (!class_name.starts_with("Qwen2")) return;
  AddFfn(b, layer + "mlp.shared_expert.", false, kFfn);
  b.Add(layer + "mlp.shared_expert_gate.weight", {1, kDim}, 1);
}

void AddLayer(Builder& b, int64_t index, std::string_view class_name) {
  const std::string layer = fmt::format("model.layers.{}.", index);
  const bool gemma = class_name.starts_with("Gemma"), phi = class_name.starts_with("Phi3");
  const bool post_norms = gemma && class_name[5] != 'F';
  const float one = gemma ? 0.0F : 1.0F;  // Gemma's files hold w of 1 + w
  b.Add(layer + "input_layernorm.weight", {kDim}, 0.25F, one);
  const std::string attn = layer + "self_attn.";
  if (phi) {
    b.Add(attn + "qkv_proj.weight", {(kHeads + 2 * kKvHeads) * kHeadDim, kDim}, 0.5F);
  } else {
    for (const auto& [part, heads] : {std::pair{"q", kHeads}, {"k", kKvHeads}, {"v", kKvHeads}}) {
      b.Add(fmt::format("{}{}_proj.weight", attn, part), {heads * kHeadDim, kDim}, 0.5F);
      if (!class_name.starts_with("Qwen2")) continue;
      b.Add(fmt::format("{}{}_proj.bias", attn, part), {heads * kHeadDim}, 0.5F);
    }
  }
  if (class_name.starts_with("Qwen3") || class_name.starts_with("Gemma3")) {
    b.Add(attn + "q_norm.weight", {kHeadDim}, 0.25F, one);
    b.Add(attn + "k_norm.weight", {kHeadDim}, 0.25F, one);
  }
  b.Add(attn + "o_proj.weight", {kDim, kHeads * kHeadDim}, 0.25F);
  b.Add(layer + "post_attention_layernorm.weight", {kDim}, 0.25F, one);
  if (post_norms) {
    b.Add(layer + "pre_feedforward_layernorm.weight", {kDim}, 0.25F, one);
    b.Add(layer + "post_feedforward_layernorm.weight", {kDim}, 0.25F, one);
  }
  if (class_name.find("Moe") != std::string_view::npos || class_name.starts_with("Mixtral")) {
    AddExperts(b, layer, class_name);
  } else {
    AddFfn(b, layer + "mlp.", phi, kFfn);
  }
}

}  // namespace

void TestHfFolder::Set(std::string_view key, std::string_view json) {
  boost::json::value value = boost::json::parse(config);
  value.as_object()[key] = boost::json::parse(json);
  config = boost::json::serialize(value);
}

void TestHfFolder::Remove(std::string_view key) {
  boost::json::value value = boost::json::parse(config);
  value.as_object().erase(key);
  config = boost::json::serialize(value);
}

void TestHfFolder::Nest(std::string_view class_name, std::string_view prefix,
                        std::string_view head) {
  boost::json::object text = boost::json::parse(config).as_object(), all;
  text.erase("architectures");
  all["tie_word_embeddings"] =
      text.contains("tie_word_embeddings") ? text["tie_word_embeddings"] : boost::json::value(true);
  all["architectures"] = {std::string(class_name)};
  text.erase("tie_word_embeddings");
  all["text_config"] = std::move(text);
  all["vision_config"] = {{"hidden_size", 16}};
  config = boost::json::serialize(all);
  for (TestSafetensor& t : tensors.tensors) {
    if (t.name.starts_with("model.")) t.name = std::string(prefix) + t.name.substr(6);
    if (t.name.starts_with("lm_head.")) t.name = std::string(head) + t.name.substr(8);
  }
  const std::string_view images = prefix.starts_with("model.") ? "model." : "";
  for (const char* part : {"vision_tower.vision_model.encoder.layers.0.layer_norm1.weight",
                           "multi_modal_projector.mm_input_projection_weight"}) {
    tensors.tensors.push_back({std::string(images) + part, "F32", {2}, std::string(8, '\0'), {}});
  }
}

void TestHfFolder::Write(const std::filesystem::path& folder) const {
  const auto write = [&](const std::string& name, const char* data, size_t size) {
    std::filesystem::create_directories((folder / name).parent_path());
    std::ofstream(folder / name, std::ios::binary).write(data, static_cast<std::streamsize>(size));
  };
  const std::vector<uint8_t> bytes = tensors.Build();
  if (!config.empty()) write("config.json", config.data(), config.size());
  if (!files.contains("model.safetensors")) {
    write("model.safetensors", reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  for (const auto& [name, text] : files) {
    if (!text.empty()) write(name, text.data(), text.size());
  }
}

TestHfFolder MakeTestHfFolder(std::string_view class_name, std::string_view dtype) {
  TestHfFolder folder;
  const bool tied = class_name.starts_with("Gemma");
  folder.config = fmt::format(
      R"({{"architectures":["{}"],"hidden_size":{},"intermediate_size":{},"vocab_size":{},)"
      R"("num_hidden_layers":{},"num_attention_heads":{},"num_key_value_heads":{},"head_dim":{},)"
      R"("max_position_embeddings":512,"rms_norm_eps":1e-05,"rope_theta":10000.0,)"
      R"("tie_word_embeddings":{},"torch_dtype":"float32","eos_token_id":2}})",
      class_name, kDim, kFfn, kVocab, kLayers, kHeads, kKvHeads, kHeadDim, tied);
  if (class_name.starts_with("Mixtral")) {
    folder.Set("num_local_experts", fmt::to_string(kExperts));
    folder.Set("num_experts_per_tok", "2");
  } else if (class_name.find("Moe") != std::string_view::npos) {
    folder.Set("num_experts", fmt::to_string(kExperts));
    folder.Set("num_experts_per_tok", "2");
    folder.Set("moe_intermediate_size", fmt::to_string(kExpertFfn));
    if (class_name.starts_with("Qwen2")) {
      folder.Set("shared_expert_intermediate_size", fmt::to_string(kFfn));
    }
  } else if (class_name.starts_with("Gemma3") || class_name.starts_with("Gemma2")) {
    folder.Set("sliding_window", "16");
    folder.Set("query_pre_attn_scalar", "16");
  }
  Builder b(folder.tensors, dtype);
  b.Add("model.embed_tokens.weight", {kVocab, kDim}, 1);
  for (int64_t l = 0; l < kLayers; ++l) AddLayer(b, l, class_name);
  b.Add("model.norm.weight", {kDim}, 0.25F, tied ? 0.0F : 1.0F);
  if (!tied) b.Add("lm_head.weight", {kVocab, kDim}, 0.5F);
  if (class_name.ends_with("ForConditionalGeneration")) {
    folder.Nest(class_name, "language_model.model.", "language_model.lm_head.");
  }
  return folder;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "sluice_folder_XXXXXX").string();
  SLUICE_CHECK(mkdtemp(name.data()) != nullptr, "{}", name);
  path_ = name;
}
TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path_); }

}  // namespace sluice
