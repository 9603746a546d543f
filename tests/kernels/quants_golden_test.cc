// The quantised formats as somebody else reads them: tests/golden/quants.bin holds blocks of random
// bytes of every type with the values that the Python package `gguf` gives (see make_quants.py).
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

struct Golden {
  std::string name;
  std::vector<uint8_t> bytes;
  std::vector<float> values;
};

class Reader {
 public:
  explicit Reader(std::span<const char> bytes) : left_(bytes) {}
  std::span<const char> Take(size_t n) {
    SLUICE_CHECK(n <= left_.size(), "quants.bin ends early");
    const std::span<const char> taken = left_.first(n);
    left_ = left_.subspan(n);
    return taken;
  }
  uint32_t Number(size_t bytes) {
    uint32_t value = 0;
    std::memcpy(&value, Take(bytes).data(), bytes);
    return value;
  }

 private:
  std::span<const char> left_;
};

std::vector<Golden> ReadGoldens() {
  const char* source = std::getenv("SLUICE_SOURCE_DIR");
  SLUICE_CHECK(source != nullptr, "SLUICE_SOURCE_DIR must name the root of the sources");
  std::ifstream file(std::string(source) + "/tests/golden/quants.bin", std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  Reader in(bytes);
  SLUICE_CHECK(in.Number(4) == 0x42514C53 && in.Number(4) == 1, "not a quants.bin of version 1");
  std::vector<Golden> goldens(in.Number(4));
  for (Golden& golden : goldens) {
    const std::span<const char> name = in.Take(in.Number(1));
    golden.name.assign(name.begin(), name.end());
    golden.values.resize(in.Number(4));
    const std::span<const char> data = in.Take(in.Number(4));
    golden.bytes.assign(data.begin(), data.end());
    const std::span<const char> values = in.Take(golden.values.size() * sizeof(float));
    std::memcpy(golden.values.data(), values.data(), values.size());
  }
  return goldens;
}

WeightView ViewOf(const Golden& golden) {
  for (int t = 0; t <= static_cast<int>(DType::kIq4Nl); ++t) {
    const auto dtype = static_cast<DType>(t);
    if (GetDTypeInfo(dtype).name == golden.name)
      return {dtype, 1, static_cast<int64_t>(golden.values.size()), golden.bytes.data()};
  }
  SLUICE_CHECK(false, "no type is called {}", golden.name);
}

TEST(QuantsGolden, HoldsEveryQuantisedType) { EXPECT_EQ(ReadGoldens().size(), 11U); }

TEST(QuantsGolden, TheReferenceReadsTheSameValues) {
  for (const Golden& golden : ReadGoldens()) {
    const WeightView view = ViewOf(golden);
    ASSERT_EQ(static_cast<int64_t>(golden.bytes.size()), view.row_bytes()) << golden.name;
    const std::vector<double> values = reference::Dequantize(view);
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(static_cast<float>(values[i]), golden.values[i]) << golden.name << " " << i;
  }
}

TEST(QuantsGolden, EmbeddingRowsAreTheSameValuesInEveryForm) {
  for (const Golden& golden : ReadGoldens()) {
    const WeightView table = ViewOf(golden);
    for (const CpuIsa isa : CpuForms()) {
      const auto ops = MakeCpuOps({isa, 1});
      StepBatch batch;
      batch.AddRow(1, 0, {});
      Matrix out(1, static_cast<int32_t>(table.cols));
      ops->BeginStep(batch.view());
      ops->Embed({table}, 1, out.view());
      ASSERT_TRUE(ops->Finish().ok());
      for (size_t i = 0; i < out.data.size(); ++i) {
        ASSERT_EQ(out.data[i], golden.values[i])
            << golden.name << " " << CpuIsaName(isa) << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace sluice
