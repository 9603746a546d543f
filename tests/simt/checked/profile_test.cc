// The counters of the checked build on accesses whose answer is known.
#include "kernels/simt/profile.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "kernels/cuda/device.h"
#include "kernels/cuda/matrix.h"
#include "kernels/simt/memory.h"

namespace sluice::simt {
namespace {

constexpr size_t kBytes = 64 << 10;
constexpr uint32_t kBlocks = 2;

uint32_t* words;  // [kBytes / 4], aligned to 256 bytes, written

uint32_t Mine() { return cuda::ThreadIndex().x; }
void Use(uint32_t value) {
  if (value == 0x12345678) words[0] = value;
}

MemoryCounters CountersOf(void (*kernel)(), uint32_t threads, uint64_t seed) {
  const std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(256, kBytes), std::free);
  words = static_cast<uint32_t*>(memory.get());
  MemoryAllocated(words, kBytes);
  for (size_t i = 0; i < kBytes / 4; ++i) words[i] = 0;
  MemoryWritten(words, kBytes);
  CountMemory(true);
  const LaunchReport report =
      RunGrid({.kernel = "counted", .grid = {kBlocks}, .block = {threads}, .seed = seed}, kernel);
  CountMemory(false);
  MemoryFreed(words);
  EXPECT_TRUE(report.findings.empty()) << report.findings[0].ToString();
  return report.memory;
}

void Coalesced() { Use(words[Mine()]); }
void EachItsOwn() { words[cuda::BlockIndex().x * 32 + Mine()] = 1; }
void EverySecond() { Use(words[2 * Mine()]); }
void ASectorEach() { Use(words[8 * Mine()]); }
void Broadcast() { Use(words[5]); }
void Misplaced() { Use(words[Mine() + 1]); }
void Wide() { Use(cuda::LoadWords4(words + 4 * Mine()).word[0]); }
void Loop() {  // a warp's requests are its lanes' n-th visits, however they take turns
  for (uint32_t i = 0; i < 4; ++i) Use(words[32 * i + Mine()]);
}
void SomeLanes() {
  if (Mine() < 8) Use(words[Mine()]);
}

void WithoutConflicts() {
  SLUICE_SHARED(uint32_t, shared, [1024]);
  shared[Mine()] = 1;
}
void TwoWays() {
  SLUICE_SHARED(uint32_t, shared, [1024]);
  shared[2 * Mine()] = 1;
}
void AllOneBank() {
  SLUICE_SHARED(uint32_t, shared, [1024]);
  shared[32 * Mine()] = 1;
}
void SharedBroadcast() {
  SLUICE_SHARED(uint32_t, shared, [1024]);
  if (Mine() == 0) shared[3] = 1;
  cuda::SyncBlock();
  Use(shared[3]);
}
void WideShared() {
  SLUICE_SHARED(uint32_t, shared, [1024]);
  cuda::StoreWords4(shared + 4 * Mine(), {});
}
// Rows of 64 bytes: of the eight rows of a matrix, every second one begins at the same bank.
void MatricesOfNarrowRows() {
  SLUICE_SHARED(uint16_t, tile, [32 * 32]);
  for (uint32_t i = Mine(); i < 32 * 32; i += 32) tile[i] = 1;
  cuda::SyncBlock();
  uint32_t out[4];
  cuda::LoadMatrices(tile + Mine() * 32, out);
  Use(out[0]);
}
void MatricesOfPaddedRows() {
  SLUICE_SHARED(uint16_t, tile, [32 * 40]);
  for (uint32_t i = Mine(); i < 32 * 40; i += 32) tile[i] = 1;
  cuda::SyncBlock();
  uint32_t out[4];
  cuda::LoadMatrices(tile + Mine() * 40, out);
  Use(out[0]);
}

struct Known {
  const char* name;
  void (*kernel)();
  MemoryCounters counters;  // of kBlocks warps
};

class CountedKernels : public ::testing::TestWithParam<Known> {};

TEST_P(CountedKernels, HaveTheirCountsUnderEveryOrder) {
  const MemoryCounters& expected = GetParam().counters;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const MemoryCounters got = CountersOf(GetParam().kernel, 32, seed);
    EXPECT_EQ(got.dram_read_sectors, expected.dram_read_sectors);
    EXPECT_EQ(got.dram_written_sectors, expected.dram_written_sectors);
    EXPECT_EQ(got.l2_sectors, expected.l2_sectors);
    EXPECT_EQ(got.l2_ideal_sectors, expected.l2_ideal_sectors);
    EXPECT_EQ(got.shared_wavefronts, expected.shared_wavefronts);
    EXPECT_EQ(got.shared_ideal_wavefronts, expected.shared_ideal_wavefronts);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, CountedKernels,
    ::testing::Values(Known{"Coalesced", Coalesced, {4, 0, 2 * 4, 2 * 4, 0, 0}},
                      Known{"EachItsOwn", EachItsOwn, {0, 8, 2 * 4, 2 * 4, 0, 0}},
                      Known{"EverySecond", EverySecond, {8, 0, 2 * 8, 2 * 4, 0, 0}},
                      Known{"ASectorEach", ASectorEach, {32, 0, 2 * 32, 2 * 4, 0, 0}},
                      Known{"Broadcast", Broadcast, {1, 0, 2, 2, 0, 0}},
                      Known{"Misplaced", Misplaced, {5, 0, 2 * 5, 2 * 4, 0, 0}},
                      Known{"Wide", Wide, {16, 0, 2 * 16, 2 * 16, 0, 0}},
                      Known{"Loop", Loop, {16, 0, 2 * 16, 2 * 16, 0, 0}},
                      Known{"SomeLanes", SomeLanes, {1, 0, 2, 2, 0, 0}},
                      Known{"WithoutConflicts", WithoutConflicts, {0, 0, 0, 0, 2 * 1, 2 * 1}},
                      Known{"TwoWays", TwoWays, {0, 0, 0, 0, 2 * 2, 2 * 1}},
                      Known{"AllOneBank", AllOneBank, {0, 0, 0, 0, 2 * 32, 2 * 1}},
                      Known{"SharedBroadcast", SharedBroadcast, {0, 0, 0, 0, 2 * 2, 2 * 2}},
                      Known{"WideShared", WideShared, {0, 0, 0, 0, 2 * 4, 2 * 4}},
                      Known{"MatricesOfNarrowRows",
                            MatricesOfNarrowRows,
                            {0, 0, 0, 0, 2 * (32 + 4 * 4), 2 * (32 + 4)}},
                      Known{"MatricesOfPaddedRows",
                            MatricesOfPaddedRows,
                            {0, 0, 0, 0, 2 * (40 + 4), 2 * (40 + 4)}}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice::simt
