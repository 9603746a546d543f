// Low-rank additions on the CPU, in every form and with some threads.
#include <gtest/gtest.h>

#include "tests/kernels/adapter_case.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

TEST(Adapters, AddTheirRowsSumsInEveryForm) {
  std::vector<float> first;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    const auto ops = MakeCpuOps(setting);
    size_t runs = 0;
    std::vector<float> all;
    const RunAdapters run = [&](const BatchView& batch, const Adapters& adapters,
                                const std::vector<float>& x, const std::vector<float>& out) {
      std::vector<float> in = x, to = out;
      ops->BeginStep(batch);
      ops->AddAdapters({in.data(), batch.num_tokens, adapters.cols, adapters.cols}, adapters,
                       {to.data(), batch.num_tokens, adapters.rows, adapters.rows});
      EXPECT_TRUE(ops->Finish().ok());
      ++runs;
      all.insert(all.end(), to.begin(), to.end());
      return to;
    };
    for (const bool halfs : {false, true}) {
      ExpectAdaptersAdd(*ops, 64, 128, halfs, run);
      ExpectAdaptersAdd(*ops, 37, 51, halfs, run);
    }
    EXPECT_EQ(runs, 4U * 9);
    if (first.empty()) first = all;
    EXPECT_EQ(all, first);
  }
}

TEST(Adapters, ThatDoNotFitAreRefused) { ExpectAdaptersRefused(*MakeCpuOps(CpuSettings()[0])); }

TEST(Adapters, ARowsAdapterMustBeThere) {
  const auto ops = MakeCpuOps(CpuSettings()[0]);
  const AdapterView none[1] = {};
  const auto adapters = ops->LoadAdapters(none, 16, 16);
  ASSERT_TRUE(adapters.ok());
  StepBatch batch;
  batch.AddRow(1, 0, {});
  batch.SetAdapters(std::vector<int32_t>{1});
  Matrix x(1, 16), out(1, 16);
  ops->BeginStep(batch.view());
  ops->AddAdapters(x.view(), *adapters, out.view());
  EXPECT_EQ(ops->Finish().message(), "row 0 has adapter 1; there are 1");
}

}  // namespace
}  // namespace sluice
