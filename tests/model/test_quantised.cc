#include "tests/model/test_quantised.h"

#include <functional>
#include <random>
#include <utility>

namespace sluice {
namespace {

using Tensors = std::vector<TestSafetensor>;

std::string RandomBytes(int64_t size, std::mt19937& random) {
  std::string bytes;
  for (int64_t i = 0; i < size; ++i) bytes.push_back(static_cast<char>(random()));
  return bytes;
}

template <typename T>
std::string Repeat(T number, int64_t count) {
  return BytesOf(std::vector<T>(static_cast<size_t>(count), number));
}

// Replaces each linear layer "stem.weight" [n, k].
void Replace(
    TestHfFolder& folder, const char* config,
    const std::function<void(const std::string& stem, int64_t n, int64_t k, Tensors&)>& by) {
  folder.Set("quantization_config", config);
  Tensors out;
  for (TestSafetensor& tensor : folder.tensors.tensors) {
    const std::string suffix = "_proj.weight";
    if (!tensor.name.ends_with(suffix)) {
      out.push_back(std::move(tensor));
      continue;
    }
    by(tensor.name.substr(0, tensor.name.size() - 7), tensor.shape[0], tensor.shape[1], out);
  }
  folder.tensors.tensors = std::move(out);
}

constexpr uint16_t kHalf = 0x2400;  // 2^-6
constexpr uint16_t kBf16 = 0x3c80;  // 2^-6

}  // namespace

void QuantiseAsGptq(TestHfFolder& folder) {
  std::mt19937 random(2);
  Replace(folder, kGptqConfig, [&](const std::string& stem, int64_t n, int64_t k, Tensors& out) {
    std::vector<int32_t> index(static_cast<size_t>(k));
    for (int64_t i = 0; i < k; ++i) index[static_cast<size_t>(i)] = static_cast<int32_t>(i / 32);
    const int64_t groups = k / 32;
    out.push_back({stem + ".qweight", "I32", {k / 8, n}, RandomBytes(k / 2 * n, random), {}});
    out.push_back(
        {stem + ".qzeros", "I32", {groups, n / 8}, Repeat(0x77777777, groups * n / 8), {}});
    out.push_back({stem + ".scales", "F16", {groups, n}, Repeat(kHalf, groups * n), {}});
    out.push_back({stem + ".g_idx", "I32", {k}, BytesOf(index), {}});
  });
}

void QuantiseAsPacked(TestHfFolder& folder) {
  std::mt19937 random(3);
  Replace(folder, kPackedConfig, [&](const std::string& stem, int64_t n, int64_t k, Tensors& out) {
    const int64_t groups = k / 32;
    out.push_back({stem + ".weight_packed", "I32", {n, k / 8}, RandomBytes(k / 2 * n, random), {}});
    out.push_back({stem + ".weight_scale", "BF16", {n, groups}, Repeat(kBf16, n * groups), {}});
    out.push_back({stem + ".weight_zero_point",
                   "I32",
                   {n / 8, groups},
                   RandomBytes(n / 2 * groups, random),
                   {}});
    out.push_back({stem + ".weight_shape", "I64", {2}, BytesOf(std::vector<int64_t>{n, k}), {}});
  });
}

void QuantiseAsFp8(TestHfFolder& folder) {
  std::mt19937 random(4);
  Replace(folder, kFp8Config, [&](const std::string& stem, int64_t n, int64_t k, Tensors& out) {
    std::string codes = RandomBytes(n * k, random);
    for (char& code : codes) code = static_cast<char>(code & 0xbf);  // no NaN
    const int64_t scales = (n + 15) / 16 * (k / 32);
    out.push_back({stem + ".weight", "F8_E4M3", {n, k}, std::move(codes), {}});
    out.push_back(
        {stem + ".weight_scale_inv", "F32", {(n + 15) / 16, k / 32}, Repeat(0.25F, scales), {}});
  });
}

void QuantiseAsAwq(TestHfFolder& folder) {
  std::mt19937 random(5);
  Replace(folder, kAwqConfig, [&](const std::string& stem, int64_t n, int64_t k, Tensors& out) {
    const int64_t groups = k / 32;
    out.push_back({stem + ".qweight", "I32", {k, n / 8}, RandomBytes(k / 2 * n, random), {}});
    out.push_back(
        {stem + ".qzeros", "I32", {groups, n / 8}, RandomBytes(groups * n / 2, random), {}});
    out.push_back({stem + ".scales", "F16", {groups, n}, Repeat(kHalf, groups * n), {}});
  });
}

}  // namespace sluice
