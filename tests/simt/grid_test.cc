// The emulator on small kernels: what they compute, and what it says of broken ones.
#include "kernels/simt/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cuda/device.h"

namespace sluice::simt {
namespace {

using cuda::BlockIndex;
using cuda::ThreadIndex;
using testing::HasSubstr;

constexpr uint64_t kSeeds[] = {0, 1, 2, 3, 4, 5, 6, 7};

// Sums rows of n numbers: a block a row, a warp's sums by shuffles, the warps' by shared memory.
template <bool kWithBarrier>
void SumRows(const float* x, uint32_t n, float* out) {
  SLUICE_SHARED(float, partial, [32]);
  const uint32_t thread = ThreadIndex().x, threads = cuda::BlockSize().x;
  float sum = 0;
  for (uint32_t i = thread; i < n; i += threads) sum += x[BlockIndex().x * n + i];
  sum = cuda::GroupSum<32>(sum);
  if (thread % 32 == 0) partial[thread / 32] = sum;
  if constexpr (kWithBarrier) cuda::SyncBlock();
  float total = 0;
  for (uint32_t w = 0; w < threads / 32; ++w) total += partial[w];
  if (thread == threads - 1) out[BlockIndex().x] = total;
}

struct Sums {
  LaunchReport report;
  std::vector<float> out;
};

template <bool kWithBarrier>
Sums RunSums(uint32_t rows, uint32_t n, uint32_t threads, uint64_t seed) {
  std::vector<float> x(size_t{rows} * n);
  std::iota(x.begin(), x.end(), 1.0F);
  Sums sums;
  sums.out.assign(rows, -1);
  const Launch launch{.kernel = "sum_rows", .grid = {rows}, .block = {threads}, .seed = seed};
  sums.report = RunGrid(launch, [&] { SumRows<kWithBarrier>(x.data(), n, sums.out.data()); });
  return sums;
}

TEST(Grid, BlocksWarpsAndBarriersGiveTheExactSumUnderEveryOrder) {
  for (const uint64_t seed : kSeeds) {
    const Sums sums = RunSums<true>(5, 200, 96, seed);
    ASSERT_TRUE(sums.report.findings.empty()) << sums.report.findings[0].ToString();
    for (uint32_t r = 0; r < 5; ++r)
      EXPECT_EQ(sums.out[r], static_cast<float>(200 * (200 * r + 1) + 199 * 100)) << "row " << r;
    EXPECT_EQ(sums.report.blocks, 5U);
    EXPECT_EQ(sums.report.threads, 5U * 96);
    EXPECT_EQ(sums.report.barriers, 5U);
    EXPECT_EQ(sums.report.warp_operations, 5U * 3);
  }
}

TEST(Grid, AMissingBarrierShowsInAResult) {
  int wrong = 0;
  for (const uint64_t seed : kSeeds) {
    if (seed == 0) continue;
    wrong += RunSums<false>(4, 200, 256, seed).out != RunSums<true>(4, 200, 256, seed).out ? 1 : 0;
  }
  EXPECT_GE(wrong, 5);
}

TEST(Grid, ABlockMayHave1024ThreadsInThreeDimensions) {
  std::vector<uint32_t> seen(1024 * 6);
  const Launch launch{.kernel = "index", .grid = {1, 2, 3}, .block = {8, 16, 8}, .seed = 3};
  const LaunchReport report = RunGrid(launch, [&] {
    const auto t = ThreadIndex(), b = BlockIndex();
    ++seen[(b.z * 2 + b.y) * 1024 + (t.z * 16 + t.y) * 8 + t.x];
  });
  EXPECT_TRUE(report.findings.empty());
  EXPECT_EQ(report.threads, seen.size());
  EXPECT_THAT(seen, testing::Each(1U));
}

TEST(Grid, LanesExchangeAndVoteWithinTheirMask) {
  std::vector<uint32_t> shuffled(32), votes(32);
  const LaunchReport report = RunGrid({.kernel = "lanes", .block = {32}, .seed = 1}, [&] {
    const uint32_t lane = ThreadIndex().x;
    const uint32_t half = lane < 16 ? 0x0000ffffU : 0xffff0000U;
    shuffled[lane] = cuda::Shuffle(100 + lane, (lane + 1) % 16 + lane / 16 * 16, half);
    votes[lane] = cuda::Ballot(lane % 3 == 0, half);
  });
  ASSERT_TRUE(report.findings.empty()) << report.findings[0].ToString();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(shuffled[lane], 100 + (lane + 1) % 16 + lane / 16 * 16);
    EXPECT_EQ(votes[lane], 0x49249249U & (lane < 16 ? 0x0000ffffU : 0xffff0000U));
  }
}

TEST(Grid, GroupsReduceInOneOrderForAllTheirLanes) {
  std::vector<float> sums(32), largest(32);
  const LaunchReport report = RunGrid({.kernel = "groups", .block = {32}, .seed = 4}, [&] {
    const uint32_t lane = ThreadIndex().x;
    sums[lane] = cuda::GroupSum<8>(static_cast<float>(1 << lane % 8) + (lane >= 8 ? 256.0F : 0.0F));
    largest[lane] = cuda::GroupMax<16>(-static_cast<float>(lane));
  });
  ASSERT_TRUE(report.findings.empty()) << report.findings[0].ToString();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(sums[lane], lane < 8 ? 255 : 255 + 8 * 256);
    EXPECT_EQ(largest[lane], lane < 16 ? 0 : -16);
  }
}

TEST(Grid, NamedBarriersLetHalvesOfABlockGoOnAlone) {
  std::vector<int> order;
  const LaunchReport report = RunGrid({.kernel = "halves", .block = {128}, .seed = 2}, [&] {
    const bool first = ThreadIndex().x < 64;
    if (first) {
      cuda::SyncSome<1, 64>();
    } else {
      cuda::SyncSome<2, 64>();
    }
    order.push_back(first ? 1 : 2);
    cuda::SyncBlock();
  });
  EXPECT_TRUE(report.findings.empty());
  EXPECT_EQ(report.barriers, 3U);
  EXPECT_EQ(order.size(), 128U);
}

TEST(Grid, SharedMemoryIsEachBlocksOwnAndHoldsGarbageAtFirst) {
  std::vector<uint32_t> first;
  const LaunchReport report = RunGrid({.kernel = "leftover", .grid = {3}, .block = {32}}, [&] {
    SLUICE_SHARED(uint32_t, word, [1]);
    SLUICE_SHARED(uint64_t, other, [4]);
    if (ThreadIndex().x != 0) return;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(other) % 16, 0U);
    first.push_back(word[0]);
    word[0] = 7;
  });
  EXPECT_TRUE(report.findings.empty());
  EXPECT_THAT(first, testing::Each(0xCDCDCDCDU));
}

// Doubles numbers by way of shared memory, copied in two stages.
template <uint32_t kLeft>
void DoubleStaged(const float* in, float* out) {
  SLUICE_SHARED(float, stage, [2 * 128]);
  const uint32_t thread = ThreadIndex().x;
  for (uint32_t s = 0; s < 2; ++s) {
    cuda::CopyAsync16(stage + s * 128 + thread * 4, in + s * 128 + thread * 4);
    cuda::EndCopies();
  }
  cuda::WaitForCopies<kLeft>();
  cuda::SyncBlock();
  for (uint32_t i = 0; i < 4; ++i) out[thread * 4 + i] = 2 * stage[thread * 4 + i];
  cuda::WaitForCopies<0>();
  cuda::SyncBlock();
  for (uint32_t i = 0; i < 4; ++i) out[128 + thread * 4 + i] = 2 * stage[128 + thread * 4 + i];
}

TEST(Grid, CopiesLandAtTheirWaitAndNotBefore) {
  alignas(16) std::array<float, 256> in;
  std::iota(in.begin(), in.end(), 1.0F);
  for (const uint64_t seed : kSeeds) {
    const Launch launch{.kernel = "double", .block = {32}, .seed = seed};
    std::array<float, 256> out{};
    const LaunchReport report = RunGrid(launch, [&] { DoubleStaged<1>(in.data(), out.data()); });
    ASSERT_TRUE(report.findings.empty()) << report.findings[0].ToString();
    for (size_t i = 0; i < 256; ++i) EXPECT_EQ(out[i], 2 * in[i]);
    (void)RunGrid(launch, [&] { DoubleStaged<2>(in.data(), out.data()); });
    EXPECT_TRUE(std::isnan(out[0])) << "a wait for nothing must show";
    EXPECT_EQ(out[128], 2 * in[128]);
  }
}

TEST(Grid, CopiesThatAreNotFilledAreZeros) {
  alignas(16) std::array<float, 4> in = {1, 2, 3, 4}, out = {5, 5, 5, 5};
  const LaunchReport report = RunGrid({.kernel = "zeros"}, [&] {
    cuda::CopyAsync16(out.data(), in.data(), false);
    cuda::EndCopies();
    cuda::WaitForCopies<0>();
  });
  EXPECT_TRUE(report.findings.empty());
  EXPECT_THAT(out, testing::Each(0.0F));
}

// --- broken kernels ---

alignas(16) const float kSomewhere[8] = {};
void CopyNeverWaitedFor() {
  SLUICE_SHARED(float, stage, [64 * 4]);
  cuda::CopyAsync16(stage + ThreadIndex().x * 4, kSomewhere);
  cuda::EndCopies();
}
void CopyFromOddAddress() {
  SLUICE_SHARED(float, stage, [64 * 4]);
  cuda::CopyAsync16(stage + ThreadIndex().x * 4, kSomewhere + 1);
}

void BarrierInABranch() {
  if (ThreadIndex().x < 40) cuda::SyncBlock();
}
void BarriersAtTwoPlaces() {
  if (ThreadIndex().x < 32) {
    cuda::SyncBlock();
  } else {
    cuda::SyncBlock();
  }
}
void ShuffleInABranch() {
  if (ThreadIndex().x < 18) (void)cuda::GroupSum<32>(1);
}
void ShuffleOutsideItsMask() { (void)cuda::Shuffle(1, 0, 0x0000ffffU); }
void TwoOperationsOfOneMask() {
  if (ThreadIndex().x % 2 == 0) {
    cuda::SyncWarp();
  } else {
    (void)cuda::Ballot(true);
  }
}
void WaitsForTheOtherKind() {
  if (ThreadIndex().x < 32) {
    cuda::SyncSome<1, 64>();
  } else {
    cuda::SyncSome<2, 64>();
  }
}
void TooMuchSharedMemory() {
  SLUICE_SHARED(float, big, [50 * 256]);
  (void)big;
}

struct Broken {
  const char* name;
  void (*kernel)();
  FindingKind kind;
  const char* says;
};

class BrokenKernels : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenKernels, AreFoundUnderEveryOrderAndNamed) {
  for (const uint64_t seed : kSeeds) {
    const LaunchReport report =
        RunGrid({.kernel = "broken", .block = {64}, .seed = seed}, GetParam().kernel);
    ASSERT_EQ(report.findings.size(), 1U) << "seed " << seed;
    const Finding& finding = report.findings[0];
    EXPECT_EQ(finding.kind, GetParam().kind) << finding.ToString();
    EXPECT_THAT(finding.ToString(), HasSubstr(GetParam().says));
    EXPECT_THAT(finding.ToString(), HasSubstr("grid_test.cc:"));
    EXPECT_THAT(finding.ToString(), HasSubstr("kernel broken, block (0, 0, 0), thread "));
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, BrokenKernels,
    ::testing::Values(
        Broken{"BarrierInABranch", BarrierInABranch, FindingKind::kBarrier, "ended"},
        Broken{"BarriersAtTwoPlaces", BarriersAtTwoPlaces, FindingKind::kBarrier, "others are at"},
        Broken{"ShuffleInABranch", ShuffleInABranch, FindingKind::kWarp, "mask 0xffffffff"},
        Broken{"ShuffleOutsideItsMask", ShuffleOutsideItsMask, FindingKind::kWarp, "mask 0xffff;"},
        Broken{"TwoOperationsOfOneMask", TwoOperationsOfOneMask, FindingKind::kWarp,
               "of the same mask"},
        Broken{"WaitsForTheOtherKind", WaitsForTheOtherKind, FindingKind::kDeadlock,
               "waits in a barrier"},
        Broken{"TooMuchSharedMemory", TooMuchSharedMemory, FindingKind::kSharedMemory,
               "51200 bytes of shared memory"},
        Broken{"CopyNeverWaitedFor", CopyNeverWaitedFor, FindingKind::kCopy,
               "1 of its asynchronous copies were never waited for"},
        Broken{"CopyFromOddAddress", CopyFromOddAddress, FindingKind::kMisaligned,
               "an access of 16 bytes at "}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Grid, RefusesWhatNoCardTakes) {
  const auto kind_of = [](const Launch& launch) {
    const LaunchReport report = RunGrid(launch, [] { FAIL() << "it ran"; });
    return report.findings.empty() ? "none" : FindingKindName(report.findings[0].kind);
  };
  EXPECT_STREQ(kind_of({.block = {1025}}), "launch");
  EXPECT_STREQ(kind_of({.block = {0}}), "launch");
  EXPECT_STREQ(kind_of({.block = {1, 1, 65}}), "launch");
  EXPECT_STREQ(kind_of({.grid = {1, 65536}}), "launch");
  EXPECT_STREQ(kind_of({.grid = {0}}), "launch");
  EXPECT_STREQ(kind_of({.dynamic_shared_bytes = 48 * 1024 + 1}), "shared memory");
}

TEST(Grid, MoreSharedMemoryMustBeAskedFor) {
  const Launch launch{
      .kernel = "k", .dynamic_shared_bytes = 100 * 1024, .max_shared_bytes = 100 * 1024};
  const LaunchReport report = RunGrid(launch, [] {
    auto* bytes = static_cast<unsigned char*>(DynamicSharedMemory());
    bytes[100 * 1024 - 1] = 1;
  });
  EXPECT_TRUE(report.findings.empty());
}

}  // namespace
}  // namespace sluice::simt
