// Builds GGUF files in memory, right or wrong in any field.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/view.h"
#include "model/gguf.h"

namespace sluice {

// Little-endian bytes, appended one after the other.
class ByteWriter {
 public:
  template <typename T>
  ByteWriter& Add(T value) {
    const auto* begin = reinterpret_cast<const uint8_t*>(&value);
    bytes_.insert(bytes_.end(), begin, begin + sizeof(T));
    return *this;
  }
  ByteWriter& AddBytes(std::string_view bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  ByteWriter& AddString(std::string_view s) { return Add<uint64_t>(s.size()).AddBytes(s); }
  [[nodiscard]] std::string str() const { return {bytes_.begin(), bytes_.end()}; }
  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

struct TestMetadata {
  std::string key;
  uint32_t type = 0;
  std::string bytes;  // what follows the type in the file
};

struct TestTensor {
  std::string name;
  std::vector<uint64_t> dims;
  uint32_t type = 0;  // ggml's number
  std::string data;
  std::optional<uint64_t> offset;  // empty: the next aligned one
};

struct TestGguf {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> num_tensors, num_metadata;  // empty: the true counts
  uint64_t alignment = 32;  // of the layout; the key is not added by itself
  std::vector<TestMetadata> metadata;
  std::vector<TestTensor> tensors;

  void SetString(std::string key, std::string_view value);
  void SetU32(std::string key, uint32_t value);
  void SetF32(std::string key, float value);
  void SetBool(std::string key, uint8_t value);
  void SetStrings(std::string key, const std::vector<std::string>& values);
  void SetI32s(std::string key, const std::vector<int32_t>& values);
  void Set(std::string key, GgufType type, std::string bytes);  // replaces or adds
  void Remove(std::string_view key);
  TestTensor& Tensor(std::string_view name);  // there, or the test ends
  void RemoveTensor(std::string_view name);

  [[nodiscard]] std::vector<uint8_t> Build() const;
};

// A file of F32, F16 and BF16 tensors, to change.
TestGguf ReadTestGguf(const std::string& path);

// Sizes of TestModel.
struct TestModelShape {
  uint32_t model_dim = 32, ffn_dim = 64, vocab_size = 48, num_layers = 2, num_q_heads = 4,
           num_kv_heads = 2;
  uint32_t context = 512;
  bool tied_head = true, biases = false, head_norms = false;
};

// A whole llama file with F32 weights drawn from `seed`.
TestGguf MakeTestModel(const TestModelShape& shape = {}, uint32_t seed = 1);

}  // namespace sluice
