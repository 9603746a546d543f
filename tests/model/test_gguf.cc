#include "tests/model/test_gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/check.h"
#include "model/mapped_file.h"

namespace sluice {

void TestGguf::Set(std::string key, GgufType type, std::string bytes) {
  Remove(key);
  metadata.push_back({std::move(key), static_cast<uint32_t>(type), std::move(bytes)});
}

void TestGguf::SetString(std::string key, std::string_view value) {
  Set(std::move(key), GgufType::kString, ByteWriter().AddString(value).str());
}
void TestGguf::SetU32(std::string key, uint32_t value) {
  Set(std::move(key), GgufType::kUint32, ByteWriter().Add(value).str());
}
void TestGguf::SetF32(std::string key, float value) {
  Set(std::move(key), GgufType::kFloat32, ByteWriter().Add(value).str());
}
void TestGguf::SetBool(std::string key, uint8_t value) {
  Set(std::move(key), GgufType::kBool, ByteWriter().Add(value).str());
}

void TestGguf::SetStrings(std::string key, const std::vector<std::string>& values) {
  ByteWriter bytes;
  bytes.Add(GgufType::kString).Add<uint64_t>(values.size());
  for (const std::string& value : values) bytes.AddString(value);
  Set(std::move(key), GgufType::kArray, bytes.str());
}

void TestGguf::SetI32s(std::string key, const std::vector<int32_t>& values) {
  ByteWriter bytes;
  bytes.Add(GgufType::kInt32).Add<uint64_t>(values.size());
  for (const int32_t value : values) bytes.Add(value);
  Set(std::move(key), GgufType::kArray, bytes.str());
}

void TestGguf::Remove(std::string_view key) {
  std::erase_if(metadata, [&](const TestMetadata& entry) { return entry.key == key; });
}

TestTensor& TestGguf::Tensor(std::string_view name) {
  const auto it = std::ranges::find(tensors, name, &TestTensor::name);
  SLUICE_CHECK(it != tensors.end(), "{}", name);
  return *it;
}

void TestGguf::RemoveTensor(std::string_view name) {
  std::erase_if(tensors, [&](const TestTensor& tensor) { return tensor.name == name; });
}

TestGguf ReadTestGguf(const std::string& path) {
  const auto mapped = MappedFile::Open(path);
  SLUICE_CHECK(mapped.ok(), "{}", std::string(mapped.status().message()));
  const auto file = GgufFile::Parse(mapped->bytes(), path);  // this file, whatever its other parts
  SLUICE_CHECK(file.ok(), "{}", std::string(file.status().message()));
  TestGguf out;
  for (const GgufMetadata& entry : (*file)->metadata()) {
    const GgufValue& value = entry.value;
    ByteWriter bytes;
    if (value.type == GgufType::kString) bytes.Add<uint64_t>(value.bytes.size());
    if (value.type == GgufType::kArray) bytes.Add(value.element_type).Add<uint64_t>(value.count);
    out.Set(std::string(entry.key), value.type, bytes.AddBytes(value.bytes).str());
  }
  for (const ModelTensor& tensor : (*file)->tensors().tensors) {
    TestTensor& copy = out.tensors.emplace_back();
    copy.name = tensor.name;
    copy.dims.assign(tensor.dims, tensor.dims + tensor.num_dims);
    copy.type = tensor.dtype == DType::kF32 ? 0 : tensor.dtype == DType::kF16 ? 1 : 30;
    copy.data.assign(tensor.data, tensor.data + tensor.num_bytes);
  }
  return out;
}

std::vector<uint8_t> TestGguf::Build() const {
  ByteWriter out;
  out.AddBytes(magic).Add(version);
  out.Add<uint64_t>(num_tensors.value_or(tensors.size()))
      .Add<uint64_t>(num_metadata.value_or(metadata.size()));
  for (const TestMetadata& entry : metadata)
    out.AddString(entry.key).Add(entry.type).AddBytes(entry.bytes);
  const auto align = [&](uint64_t at) { return (at + alignment - 1) / alignment * alignment; };
  uint64_t next = 0;
  std::vector<uint64_t> places;
  for (const TestTensor& tensor : tensors) {
    out.AddString(tensor.name).Add(static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t dim : tensor.dims) out.Add(dim);
    out.Add(tensor.type).Add(tensor.offset.value_or(next));
    places.push_back(next);
    next = align(next + tensor.data.size());
  }
  const uint64_t data_begin = align(out.bytes().size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    out.bytes().resize(data_begin + places[i]);
    out.AddBytes(tensors[i].data);
  }
  return out.bytes();
}

TestGguf MakeTestModel(const TestModelShape& s, uint32_t seed) {
  TestGguf file;
  file.SetString("general.architecture", "llama");
  file.SetU32("llama.embedding_length", s.model_dim);
  file.SetU32("llama.feed_forward_length", s.ffn_dim);
  file.SetU32("llama.block_count", s.num_layers);
  file.SetU32("llama.context_length", s.context);
  file.SetU32("llama.attention.head_count", s.num_q_heads);
  file.SetU32("llama.attention.head_count_kv", s.num_kv_heads);
  file.SetF32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  file.SetF32("llama.rope.freq_base", 10000);
  file.SetString("tokenizer.ggml.model", "gpt2");
  file.SetString("tokenizer.ggml.pre", "smollm");
  std::vector<std::string> tokens;
  for (uint32_t i = 0; i < s.vocab_size; ++i) tokens.push_back(fmt::format("t{}", i));
  file.SetStrings("tokenizer.ggml.tokens", tokens);
  file.SetI32s("tokenizer.ggml.token_type", std::vector<int32_t>(s.vocab_size, 1));
  file.SetU32("tokenizer.ggml.eos_token_id", 2);

  std::mt19937 random(seed);
  const auto add = [&](const std::string& name, std::vector<uint64_t> dims, float scale,
                       float mean = 0) {
    uint64_t size = 1;
    for (const uint64_t dim : dims) size *= dim;
    ByteWriter data;
    for (uint64_t i = 0; i < size; ++i) {
      const double unit =
          (static_cast<double>(random()) + 0.5) / 4294967296.0;  // the same on every platform
      data.Add(mean + scale * static_cast<float>(2 * unit - 1));
    }
    file.tensors.push_back({name, std::move(dims), 0, data.str(), std::nullopt});
  };
  const uint64_t d = s.model_dim, head_dim = d / s.num_q_heads, kv = head_dim * s.num_kv_heads;
  add("token_embd.weight", {d, s.vocab_size}, 1);
  for (uint32_t i = 0; i < s.num_layers; ++i) {
    const std::string blk = fmt::format("blk.{}.", i);
    add(blk + "attn_norm.weight", {d}, 0.3F, 1);
    add(blk + "attn_q.weight", {d, d}, 0.4F);
    add(blk + "attn_k.weight", {d, kv}, 0.4F);
    add(blk + "attn_v.weight", {d, kv}, 0.4F);
    if (s.biases) {
      add(blk + "attn_q.bias", {d}, 0.5F);
      add(blk + "attn_k.bias", {kv}, 0.5F);
      add(blk + "attn_v.bias", {kv}, 0.5F);
    }
    if (s.head_norms) {
      add(blk + "attn_q_norm.weight", {head_dim}, 0.3F, 1);
      add(blk + "attn_k_norm.weight", {head_dim}, 0.3F, 1);
    }
    add(blk + "attn_output.weight", {d, d}, 0.3F);
    add(blk + "ffn_norm.weight", {d}, 0.3F, 1);
    add(blk + "ffn_gate.weight", {d, s.ffn_dim}, 0.3F);
    add(blk + "ffn_up.weight", {d, s.ffn_dim}, 0.3F);
    add(blk + "ffn_down.weight", {s.ffn_dim, d}, 0.3F);
  }
  add("output_norm.weight", {d}, 0.3F, 1);
  if (!s.tied_head) add("output.weight", {d, s.vocab_size}, 0.4F);
  return file;
}

}  // namespace sluice
