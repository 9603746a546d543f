// Folders with quantised weights, as other implementations write and dequantise them
// (tests/golden/make_quantised_folders.py): single weights, logits, and what becomes of both on the
// way to GGUF.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "model/convert.h"
#include "model/inspect.h"
#include "model/linear_loader.h"
#include "model/model_file.h"
#include "model/weight_source.h"
#include "model/weights.h"
#include "tests/model/logit_golden.h"
#include "tests/model/simple_ops.h"
#include "tests/model/test_hf_folder.h"

namespace sluice {
namespace {

struct FolderCase {
  const char* name;
  std::vector<DType> types;  // of its quantised matrices
  double logit_error;        // of textbook operations, over the deviation of the logits
};

// Every scale of these is an f16 number: codes and scales stay, and float32 sums differ.
constexpr double kExact = 256 * 0x1p-24;
// Types that round: the worst of 512 logits, behind a chain of up to seven products, was 0.0059,
// 0.0024 and 0.046 of the deviation; a part that is left out or misread shows as 0.1 and more.
constexpr double kMinimum = 0.01, kF16 = 0.004, kQ8 = 0.07;

const FolderCase kFolders[] = {
    {"fp8_blocks", {DType::kF16}, kF16},
    {"fp8_tensor", {DType::kF16}, kF16},
    {"ct_fp8_rows", {DType::kF16}, kF16},
    {"ct_fp8_blocks", {DType::kF16}, kF16},
    {"ct_int8_rows", {DType::kQ8_0}, kExact},
    {"ct_int8_zeros", {DType::kF16}, kF16},
    {"ct_pack4", {DType::kQ4_0}, kExact},
    {"ct_pack4_zeros", {DType::kQ4_1}, kMinimum},
    {"ct_pack4_actorder", {DType::kQ8_0}, kQ8},
    {"ct_pack8_rows", {DType::kQ8_0}, kExact},
    {"ct_pack4_experts", {DType::kQ4_0}, kExact},
    {"ct_mixed", {DType::kF16, DType::kQ4_0}, kF16},
    {"awq", {DType::kQ4_1}, kMinimum},
    {"gptq4", {DType::kQ4_0}, kExact},
    {"gptq4_rows_actorder", {DType::kQ4_0}, kExact},
    {"gptq4_actorder", {DType::kQ8_0}, kQ8},
    {"gptq4_zeros", {DType::kQ4_1}, kMinimum},
    {"gptq4_zeros_v2", {DType::kQ4_1}, kMinimum},
    {"gptq8", {DType::kQ8_0}, kExact},
    {"gptq8_actorder", {DType::kF16}, kF16},
};

struct Sample {
  uint32_t row = 0, column = 0;
  float weight = 0, scale = 0;
};
struct Matrix {
  std::string name;
  std::vector<Sample> samples;
};

std::vector<Matrix> ReadSamples(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  size_t at = 0;
  const auto read = [&](void* out, size_t size) {
    ASSERT_LE(at + size, bytes.size()) << path << " is too short";
    std::memcpy(out, bytes.data() + at, size);
    at += size;
  };
  char magic[4] = {};
  uint32_t version = 0, count = 0;
  read(magic, 4);
  read(&version, 4);
  read(&count, 4);
  EXPECT_EQ(std::string(magic, 4), "SLQS");
  EXPECT_EQ(version, 1U);
  std::vector<Matrix> matrices(version == 1 ? count : 0);
  for (Matrix& matrix : matrices) {
    uint8_t length = 0;
    uint32_t samples = 0;
    read(&length, 1);
    matrix.name.resize(length);
    read(matrix.name.data(), length);
    read(&samples, 4);
    matrix.samples.resize(std::min<uint32_t>(samples, 1000));
    for (Sample& sample : matrix.samples) read(&sample, sizeof(sample));
  }
  EXPECT_EQ(at, bytes.size());
  return matrices;
}

// By how much a weight may be off: src/model/hf_quantised_matrix.h says why. largest: of the
// weight's block.
double Bound(DType dtype, const FolderCase& folder, const Sample& sample, double largest) {
  const double value = std::abs(double{sample.weight}), scale = std::abs(double{sample.scale});
  switch (dtype) {
    case DType::kF16:
      return value * 0x1p-11 + 0x1p-25;
    case DType::kQ4_1:
      return scale * 31 * 0x1p-11 + 0x1p-24;
    case DType::kQ8_0:
      if (folder.logit_error == kQ8) return largest * (1 / 254.0 + 0x1p-11);
      [[fallthrough]];
    default:  // the product of a code and its scale, in the golden and here
      return value * 0x1p-23;
  }
}

// A tokenizer that a GGUF file can hold.
void GiveTokens(int32_t count, ModelInfo& info) {
  TokenizerData& t = info.tokenizer;
  t.model = "gpt2";
  t.pre_tokenizer = "smollm";
  for (int i = 0; i < count; ++i) t.tokens.push_back(fmt::format("t{}", i));
  t.types.assign(static_cast<size_t>(count), TokenType::kNormal);
  t.merges = {"t 1"};
  t.bos = 1;
  t.eos = 2;
  info.name = "tiny";
  info.eos_ids = {2};
}

class QuantisedFolders : public ::testing::TestWithParam<FolderCase> {
 protected:
  double Error(Ops& ops) const {
    const double error = RelativeError(golden_.logits, LogitsInOneBatch(golden_, ops));
    ::testing::Test::RecordProperty("relative_error", std::to_string(error));
    return error;
  }

  GoldenModel golden_ = OpenGoldenModel(std::string("quantised/") + GetParam().name);
};

TEST_P(QuantisedFolders, EveryWeightIsTheOthersWithinTheBoundOfItsType) {
  const std::vector<Matrix> matrices = ReadSamples(golden_.path + "/samples.bin");
  ASSERT_FALSE(matrices.empty());
  size_t quantised = 0;
  for (const ModelTensor& tensor : golden_.folder->tensors().tensors)
    quantised += tensor.source != nullptr;
  EXPECT_EQ(quantised, matrices.size());
  std::vector<std::string_view> types;
  for (const DType type : GetParam().types) types.push_back(GetDTypeInfo(type).name);
  RecordProperty("becomes", fmt::format("{}", fmt::join(types, ", ")));
  RecordProperty("summary", golden_.folder->config().quantisation->summary);
  for (const Matrix& matrix : matrices) {
    SCOPED_TRACE(matrix.name);
    const ModelTensor* tensor = golden_.folder->tensors().Find(matrix.name);
    ASSERT_NE(tensor, nullptr);
    ASSERT_NE(tensor->source, nullptr);
    EXPECT_NE(std::ranges::find(GetParam().types, tensor->dtype), GetParam().types.end())
        << GetDTypeInfo(tensor->dtype).name;
    WeightView view{tensor->dtype, tensor->dims[1], tensor->dims[0], nullptr, tensor->source};
    std::vector<uint8_t> made(static_cast<size_t>(tensor->num_bytes));
    ASSERT_TRUE(MakeRows(view, 0, view.rows, 2, made.data()).ok());
    view = {view.dtype, view.rows, view.cols, made.data()};
    std::vector<float> row(static_cast<size_t>(view.cols));
    for (const Sample& sample : matrix.samples) {
      DequantizeRow(view, sample.row, row.data());
      const auto block = row.begin() + sample.column / 32 * 32;
      const auto [low, high] = std::minmax_element(block, block + 32);
      const double largest = std::max(std::abs(*low), std::abs(*high));
      ASSERT_NEAR(row[sample.column], sample.weight,
                  Bound(view.dtype, GetParam(), sample, largest * 1.01))
          << sample.row << ", " << sample.column;
    }
  }
}

// For a backend that takes FP8: codes and scales of the file, so every weight is the other's
// product of them; scales of 48 x 48 are no such type's.
TEST_P(QuantisedFolders, Fp8ThatIsKeptIsTheOthersToTheLastBit) {
  const auto folder = HfFolder::Open(golden_.path, /*keep_fp8=*/true);
  ASSERT_TRUE(folder.ok()) << folder.status();
  size_t kept = 0;
  for (const Matrix& matrix : ReadSamples(golden_.path + "/samples.bin")) {
    const ModelTensor* tensor = (*folder)->tensors().Find(matrix.name);
    ASSERT_NE(tensor, nullptr);
    if (!IsFp8(tensor->dtype)) continue;
    ++kept;
    EXPECT_EQ(tensor->dtype,
              std::string_view(GetParam().name) == "fp8_tensor" ? DType::kFp8A8 : DType::kFp8);
    WeightView view{tensor->dtype, tensor->dims[1], tensor->dims[0], nullptr, tensor->source};
    std::vector<uint8_t> made(static_cast<size_t>(tensor->num_bytes));
    ASSERT_TRUE(MakeRows(view, 0, view.rows, 2, made.data()).ok());
    view = {view.dtype, view.rows, view.cols, made.data()};
    std::vector<float> row(static_cast<size_t>(view.cols));
    for (const Sample& sample : matrix.samples) {
      DequantizeRow(view, sample.row, row.data());
      ASSERT_EQ(row[sample.column], sample.weight) << sample.row << ", " << sample.column;
    }
  }
  const std::string_view name = GetParam().name;
  EXPECT_EQ(kept > 0, name.find("fp8") != name.npos ? name != "fp8_blocks" : name == "ct_mixed");
}

TEST_P(QuantisedFolders, RowsDoNotDependOnTheRangeOrTheThreads) {
  for (const ModelTensor& tensor : golden_.folder->tensors().tensors) {
    if (tensor.source == nullptr) continue;
    const WeightView view{tensor.dtype, tensor.dims[1], tensor.dims[0], nullptr, tensor.source};
    std::vector<uint8_t> whole(static_cast<size_t>(tensor.num_bytes)), rows(whole.size());
    ASSERT_TRUE(MakeRows(view, 0, view.rows, 3, whole.data()).ok());
    for (int64_t begin = 0; begin < view.rows; begin += 5) {
      const int64_t end = std::min(begin + 5, view.rows);
      ASSERT_TRUE(MakeRows(view, begin, end, 1, rows.data() + begin * view.row_bytes()).ok());
    }
    EXPECT_EQ(rows, whole) << tensor.name;
  }
}

TEST_P(QuantisedFolders, LogitsAreTransformersInFloat32) {
  SimpleOps ops;
  EXPECT_LE(Error(ops), GetParam().logit_error);
}

// Activations are rounded to 8 bits for quantised weights, by up to 1/254 of the largest of 32: up
// to 0.07 of the deviation here, also where the weights are exact.
TEST_P(QuantisedFolders, LogitsOfTheCpuBackendAreCloseInEveryForm) {
  const auto one = CreateCpuOps({.threads = 1});
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_LE(Error(**one), 0.1);
  const auto& config = golden_.config();
  const auto expected = LogitsInOneBatch(golden_.logits, config, golden_.views, **one);
  for (const CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (!CpuSupports(isa)) continue;
    const auto ops = CreateCpuOps({.isa = isa, .threads = 2});
    ASSERT_TRUE(ops.ok()) << ops.status();
    EXPECT_EQ(LogitsInChunks(golden_.logits, config, golden_.views, **ops), expected)
        << CpuIsaName(isa);
  }
}

// What is counted is what is loaded, and every byte of the file that made it is let go.
TEST_P(QuantisedFolders, LoadingCountsAndReleasesWhatItUses) {
  const auto ops = CreateCpuOps({.threads = 1});
  ASSERT_TRUE(ops.ok()) << ops.status();
  int64_t loaded = 0, released = 0, stored = 0;
  LoadOptions load;
  load.progress = [&](int64_t bytes) { loaded = bytes; };
  load.release = [&](std::span<const uint8_t> bytes) {
    released += static_cast<int64_t>(bytes.size());
  };
  const auto weights = LoadWeights(golden_.views, golden_.config(), 64, load, **ops);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(loaded, LinearBytes(golden_.views, std::nullopt));
  for (const ModelTensor& tensor : golden_.folder->tensors().tensors) {
    if (tensor.source != nullptr) {
      tensor.source->Release([&](auto bytes) { stored += static_cast<int64_t>(bytes.size()); });
    } else if (tensor.num_dims == 2) {
      stored += tensor.num_bytes;
    }
  }
  EXPECT_EQ(released, stored);
}

TEST_P(QuantisedFolders, RoundingAtLoadTakesWhatBecameFloats) {
  const auto ops = CreateCpuOps({.threads = 1});
  ASSERT_TRUE(ops.ok()) << ops.status();
  int64_t expected =
      golden_.views.token_embd.rows * golden_.views.token_embd.cols / 32 * 34;  // the tied head
  for (const ModelTensor& tensor : golden_.folder->tensors().tensors) {
    const bool router = tensor.name.find("ffn_gate_inp") != std::string_view::npos;
    if (tensor.num_dims != 2 || tensor.name == "token_embd.weight") continue;
    const bool floats = GetDTypeInfo(tensor.dtype).block_elements == 1 && !router;
    expected += floats ? tensor.dims[0] * tensor.dims[1] / 32 * 34 : tensor.num_bytes;
  }
  const int64_t table = golden_.views.token_embd.rows * golden_.views.token_embd.cols / 32 * 34;
  EXPECT_EQ(LinearBytes(golden_.views, DType::kQ8_0), expected + table);
  const LoadOptions load{.quantise = DType::kQ8_0, .threads = 2};
  const auto weights = LoadWeights(golden_.views, golden_.config(), 64, load, **ops);
  EXPECT_TRUE(weights.ok()) << weights.status();
}

// The same blocks under another name, so that logits differ by the order of float32 sums at most:
// the heads of a llama's file have their elements in another order.
TEST_P(QuantisedFolders, TheGgufFileHasTheSameTypesAndLogits) {
  const TemporaryFolder dir;
  const ModelConfig config = golden_.config();
  ModelFile model;
  model.config = config;
  model.weights = golden_.views;
  model.folder = std::move(golden_.folder);
  GiveTokens(config.vocab_size, model.info);
  EXPECT_NE(InspectModel(model, 64, 4)
                .find("quantization     " + model.folder->config().quantisation->summary),
            std::string::npos);
  const std::string path = dir.path() / "out.gguf";
  const absl::Status made = ConvertToGguf(model, path, {.threads = 2});
  ASSERT_TRUE(made.ok()) << made;
  const auto gguf = ModelFile::Open(path);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  for (const ModelTensor& tensor : gguf->tensors().tensors) {
    const ModelTensor* source = model.tensors().Find(tensor.name);
    if (source == nullptr) continue;  // experts stand together in GGUF
    EXPECT_EQ(tensor.dtype, source->dtype) << tensor.name;
    EXPECT_EQ(tensor.num_bytes, source->num_bytes) << tensor.name;
  }
  SimpleOps ops, gguf_ops;
  LogitGolden expected = golden_.logits;
  expected.logits = LogitsInOneBatch(golden_.logits, config, golden_.views, ops);
  const auto logits = LogitsInOneBatch(golden_.logits, gguf->config, gguf->weights, gguf_ops);
  EXPECT_LE(RelativeError(expected, logits), config.architecture == "llama" ? kExact : 0.0);
}

INSTANTIATE_TEST_SUITE_P(Golden, QuantisedFolders, ::testing::ValuesIn(kFolders),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice
