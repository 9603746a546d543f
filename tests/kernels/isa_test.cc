#include "kernels/cpu/isa.h"

#include <gtest/gtest.h>

#include "kernels/cpu/cpu_ops.h"

namespace sluice {
namespace {

TEST(CpuIsa, AutoIsTheBestFormAndEveryFormBelowItRuns) {
  const auto automatic = ParseCpuIsa("auto");
  ASSERT_TRUE(automatic.ok());
  EXPECT_EQ(*automatic, BestCpuIsa());
  for (int isa = 0; isa <= static_cast<int>(BestCpuIsa()); ++isa) {
    EXPECT_TRUE(CpuSupports(static_cast<CpuIsa>(isa)));
    const auto parsed = ParseCpuIsa(CpuIsaName(static_cast<CpuIsa>(isa)));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(static_cast<int>(*parsed), isa);
  }
}

TEST(CpuIsa, AFormTheCpuLacksIsRefusedByName) {
  for (const CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    const auto parsed = ParseCpuIsa(CpuIsaName(isa));
    EXPECT_EQ(parsed.ok(), CpuSupports(isa));
    if (!parsed.ok()) {
      EXPECT_NE(parsed.status().message().find("AVX"), std::string::npos) << parsed.status();
    }
    EXPECT_EQ(CreateCpuOps({isa, 1}).ok(), CpuSupports(isa));
  }
}

TEST(CpuIsa, AnotherWordIsAnError) {
  EXPECT_EQ(ParseCpuIsa("sse9").status().message(),
            "cpu-isa is \"sse9\"; it must be auto, avx512, avx2 or scalar");
  EXPECT_FALSE(CreateCpuOps({BestCpuIsa(), -1}).ok());
}

}  // namespace
}  // namespace sluice
