// Damaged files of every format: each is refused in one sentence or loaded, none crashes, and none
// makes the reader hold much more memory than the files take on the disk.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "model/hf_folder.h"
#include "model/model_file.h"
#include "model/weight_source.h"
#include "tests/model/allocation_peak.h"
#include "tests/model/test_gguf.h"
#include "tests/model/test_hf_folder.h"
#include "tests/model/test_quantised.h"

namespace sluice {
namespace {

constexpr int kFilesEach = 240;
// What the parsers take before they have read anything: JSON's buffers and pools.
constexpr size_t kFixedBytes = 48 << 10;

// Half of the damage goes into the first `head` bytes, where the structure is.
std::string Damage(std::string bytes, size_t head, std::mt19937& random) {
  const auto place = [&] {
    const size_t range = random() % 2 == 0 ? std::min(head, bytes.size()) : bytes.size();
    return random() % std::max<size_t>(range, 1);
  };
  for (auto n = 1 + random() % 3; n > 0 && !bytes.empty(); --n) {
    const size_t at = place(), length = std::min<size_t>(1 + random() % 64, bytes.size() - at);
    switch (random() % 8) {
      case 0:  // a byte
        bytes[at] = static_cast<char>(random());
        break;
      case 1:  // a bit
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
        break;
      case 2:  // a huge number over binary ones
        for (size_t i = at; i < std::min(at + 8, bytes.size()); ++i) bytes[i] = '\xff';
        break;
      case 3:  // a huge number among decimal ones
        if (const auto digit =
                std::find_if(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(),
                             [](unsigned char c) { return isdigit(c); });
            digit != bytes.end()) {
          bytes.insert(digit, 1 + random() % 20, '9');
        }
        break;
      case 4:  // the end
        bytes.resize(at);
        break;
      case 5:  // a hole
        bytes.erase(at, length);
        break;
      case 6:  // a piece twice
        bytes.insert(at, std::string(bytes, at, length));
        break;
      default:  // two pieces swapped
        std::swap_ranges(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                         bytes.begin() + static_cast<std::ptrdiff_t>(at + length / 2),
                         bytes.begin() + static_cast<std::ptrdiff_t>(at + length / 2));
    }
  }
  return bytes;
}

struct Tally {
  int refused = 0, loaded = 0;
};

void Judge(const absl::Status& status, size_t peak, size_t file_bytes, const std::string& what,
           Tally& tally) {
  ASSERT_LE(peak, 2 * file_bytes + kFixedBytes) << what;
  ++(status.ok() ? tally.loaded : tally.refused);
  if (status.ok()) return;
  const std::string message(status.message());
  EXPECT_GT(message.size(), 10U) << what;
  EXPECT_LT(message.size(), 600U) << what;
  for (const char c : message) {
    ASSERT_TRUE(c >= 0x20 && c < 0x7f) << what << ": byte " << int{c} << " in: " << message;
  }
}

void DamageGguf(const std::vector<uint8_t>& good) {
  Tally tally;
  for (uint32_t seed = 0; seed < kFilesEach; ++seed) {
    std::mt19937 random(seed);
    const std::string text = Damage(std::string(good.begin(), good.end()), 3000, random);
    const std::vector<uint8_t> bytes(text.begin(), text.end());
    const AllocationPeak peak;
    auto gguf = GgufFile::Parse(bytes, "f.gguf");
    const absl::Status status =
        gguf.ok() ? ModelFile::FromGguf(*std::move(gguf)).status() : gguf.status();
    Judge(status, peak.bytes(), bytes.size(), fmt::format("seed {}", seed), tally);
  }
  EXPECT_GT(tally.refused, kFilesEach / 4);
  EXPECT_GT(tally.loaded, 0);
}

TEST(Mutations, OfGgufFiles) {
  DamageGguf(MakeTestModel({.tied_head = false, .biases = true}).Build());
}

TEST(Mutations, OfGgufEncoders) {
  const char* root = std::getenv("SLUICE_SOURCE_DIR");
  ASSERT_NE(root, nullptr) << "SLUICE_SOURCE_DIR must name the root of the sources";
  DamageGguf(ReadTestGguf(std::string(root) + "/tests/golden/gguf/bert-mean.gguf").Build());
}

// Which of a folder's files is damaged, how long its structure is, and what its weights are.
struct FolderCase {
  const char* name;
  const char* file;
  size_t head;
  void (*quantise)(TestHfFolder& folder) = nullptr;
};

// Makes the rows of all quantised matrices, as loading would.
absl::Status MakeAllRows(const TensorTable& table) {
  for (const ModelTensor& tensor : table.tensors) {
    if (tensor.source == nullptr) continue;
    const WeightView view{tensor.dtype, tensor.dims[1], tensor.dims[0], nullptr, tensor.source};
    std::vector<uint8_t> rows(static_cast<size_t>(tensor.num_bytes));
    const absl::Status made = MakeRows(view, 0, view.rows, 1, rows.data());
    if (!made.ok()) return made;
  }
  return absl::OkStatus();
}

class FolderMutations : public ::testing::TestWithParam<FolderCase> {};

TEST_P(FolderMutations, AreRefusedInOneSentenceOrLoaded) {
  TestHfFolder model = MakeTestHfFolder("Gemma3ForCausalLM", "BF16");
  model.Set("rope_scaling", R"({"rope_type":"linear","factor":8.0})");
  if (GetParam().quantise != nullptr) GetParam().quantise(model);
  const std::vector<uint8_t> tensors = model.tensors.Build();
  std::map<std::string, std::string> good;
  good["config.json"] = model.config;
  good["model.safetensors"].assign(tensors.begin(), tensors.end());
  if (GetParam().file == std::string("model.safetensors.index.json")) {
    std::string map;
    for (const TestSafetensor& tensor : model.tensors.tensors) {
      map += fmt::format("{}\"{}\":\"model.safetensors\"", map.empty() ? "" : ",", tensor.name);
    }
    // A note that nothing is read from, so that some damage is harmless.
    good[GetParam().file] =
        fmt::format(R"({{"metadata":{{"note":"{:x>400}"}},"weight_map":{{{}}}}})", "", map);
  }
  const TemporaryFolder dir;
  TestHfFolder files;
  files.files = good;
  files.Write(dir.path());
  ASSERT_TRUE(HfFolder::Open(dir.path()).ok()) << HfFolder::Open(dir.path()).status();
  size_t others = 0;  // bytes of the files that stay as they are
  for (const auto& [name, content] : good) others += name == GetParam().file ? 0 : content.size();
  Tally tally;
  for (uint32_t seed = 0; seed < kFilesEach; ++seed) {
    std::mt19937 random(seed);
    const std::string text = Damage(good[GetParam().file], GetParam().head, random);
    std::ofstream(dir.path() / GetParam().file, std::ios::binary)
        .write(text.data(), static_cast<std::streamsize>(text.size()));
    const size_t size = others + text.size();
    const AllocationPeak peak;
    const auto folder = HfFolder::Open(dir.path());
    absl::Status status = folder.status();
    if (status.ok()) {
      status = FindWeights((*folder)->tensors(), (*folder)->config().config).status();
    }
    const size_t most = peak.bytes();
    if (status.ok()) status = MakeAllRows((*folder)->tensors());
    Judge(status, most, size, fmt::format("{} seed {}", GetParam().file, seed), tally);
  }
  EXPECT_GT(tally.refused, kFilesEach / 4);
  EXPECT_GT(tally.loaded, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Files, FolderMutations,
    ::testing::Values(FolderCase{"Config", "config.json", 1000},
                      FolderCase{"Tensors", "model.safetensors", 4000},
                      FolderCase{"GptqConfig", "config.json", 1000, QuantiseAsGptq},
                      FolderCase{"GptqTensors", "model.safetensors", 6000, QuantiseAsGptq},
                      FolderCase{"PackedConfig", "config.json", 1000, QuantiseAsPacked},
                      FolderCase{"PackedTensors", "model.safetensors", 6000, QuantiseAsPacked},
                      FolderCase{"Fp8Tensors", "model.safetensors", 6000, QuantiseAsFp8},
                      FolderCase{"AwqTensors", "model.safetensors", 6000, QuantiseAsAwq},
                      FolderCase{"Index", "model.safetensors.index.json", 1000}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice
