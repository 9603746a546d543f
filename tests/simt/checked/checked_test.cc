// The checked build of the emulator: small broken kernels of every kind that it must find under
// every order, and each one's sound twin, which it must never blame. This file is compiled as
// checked kernels are.
#include "kernels/simt/checked.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/memory.h"
#include "tests/simt/checked/broken_kernels.h"

namespace sluice::simt {
namespace {

using testing::HasSubstr;

class DeviceWords {
 public:
  explicit DeviceWords(size_t words) : words_(words) { MemoryAllocated(words_.data(), words * 4); }
  ~DeviceWords() { MemoryFreed(words_.data()); }
  DeviceWords(const DeviceWords&) = delete;
  DeviceWords& operator=(const DeviceWords&) = delete;
  [[nodiscard]] uint32_t* data() { return words_.data(); }
  void Fill() {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] = static_cast<uint32_t>(i + 1);
    MemoryWritten(words_.data(), words_.size() * 4);
  }
  void Zero() {
    std::memset(words_.data(), 0, words_.size() * 4);
    MemoryWritten(words_.data(), words_.size() * 4);
  }

 private:
  std::vector<uint32_t> words_;
};

LaunchReport Launched(void (*kernel)(), uint64_t seed) {
  DeviceWords in(kWords), out(kBlocks * kWords), counter(4);
  in.Fill();
  counter.Zero();
  std::vector<uint32_t> of_host(kWords);
  auto freed = std::make_unique<DeviceWords>(kWords);
  freed->Fill();
  arrays = {in.data(), out.data(), counter.data(), freed->data(), of_host.data()};
  MemoryFreed(freed->data());
  return RunGrid({.kernel = "broken",
                  .grid = {kBlocks},
                  .block = {kThreads},
                  .dynamic_shared_bytes = kThreads * 4,
                  .seed = seed},
                 kernel);
}

struct Case {
  const char* name;
  void (*broken)();
  void (*sound)();
  FindingKind kind;
  const char* says;
};
#define SLUICE_CASE(name, kind, says) \
  Case { #name, name<true>, name<false>, FindingKind::kind, says }

const Case kCases[] = {
    SLUICE_CASE(ReadsOneTooMany, kOutOfBounds, "0 bytes behind an allocation of 1024"),
    SLUICE_CASE(ReadsBefore, kOutOfBounds, "4 bytes before an allocation of 1024"),
    SLUICE_CASE(WritesBehind, kOutOfBounds, "behind an allocation of 3072"),
    SLUICE_CASE(LeavesASharedVariable, kOutOfBounds, "at byte 256 of a shared variable"),
    SLUICE_CASE(LeavesDynamicMemory, kOutOfBounds, "at byte 256 of a shared variable"),
    SLUICE_CASE(ReadsTheHost, kOutOfBounds, "a read of 4 bytes"),
    SLUICE_CASE(WritesTheHost, kOutOfBounds, "a write of 4 bytes"),
    SLUICE_CASE(ReadsWhatWasFreed, kOutOfBounds, "a read of 4 bytes"),
    SLUICE_CASE(CopiesFromBehind, kOutOfBounds, "0 bytes behind an allocation of 1024"),
    SLUICE_CASE(LoadsAtAnOddWord, kMisaligned, "a read of 16 bytes"),
    SLUICE_CASE(StoresAtAnOddWord, kMisaligned, "a write of 16 bytes"),
    SLUICE_CASE(ReadsAWordAtAnOddByte, kMisaligned, "a read of 4 bytes"),
    SLUICE_CASE(ReadsWhatNobodyWrote, kUninitialised, "which nobody has written"),
    SLUICE_CASE(ReadsSharedThatNobodyWrote, kUninitialised, "which nobody has written"),
    SLUICE_CASE(LoadsMatricesThatNobodyWrote, kUninitialised, "a read of 16 bytes"),
    SLUICE_CASE(ReadsItsNeighbour, kRace, " by thread 6"),
    SLUICE_CASE(WritesWhatIsBeingRead, kRace, "nothing that orders them"),
    SLUICE_CASE(AllWriteOneWord, kRace, "and a write by thread"),
    SLUICE_CASE(WarpsWriteOneByte, kRace, "a write of 1 bytes"),
    SLUICE_CASE(ExchangesWithinAWarp, kRace, "nothing that orders them"),
    SLUICE_CASE(TakesAShuffleForABarrier, kRace, "nothing that orders them"),
    SLUICE_CASE(SyncsHalfAWarp, kRace, "nothing that orders them"),
    SLUICE_CASE(SyncsHalfABlock, kRace, "nothing that orders them"),
    SLUICE_CASE(HandsOverByNamedBarriers, kRace, "nothing that orders them"),
    SLUICE_CASE(CountsInSharedMemory, kRace, "nothing that orders them"),
    SLUICE_CASE(LoadsMatricesBeforeTheyAreWritten, kRace, "nothing that orders them"),
    SLUICE_CASE(BlocksWriteOneWord, kRace, "and a write by thread 0 of another block at"),
    SLUICE_CASE(BlocksReadEachOther, kRace, "of another block at"),
    SLUICE_CASE(BlocksCount, kRace, "and a write by thread 0 of another block at"),
    SLUICE_CASE(LastBlockFencedByAll, kRace, "of another block at"),
    SLUICE_CASE(LastBlockFencedByOne, kRace, "of another block at"),
    SLUICE_CASE(LastBlockReadsBehindAFence, kRace, "of another block at"),
    SLUICE_CASE(LastBlockCountsTooSoon, kRace, "of another block at"),
    SLUICE_CASE(ReadsACopyUnderWay, kCopy, "the target of the asynchronous copy that thread"),
    SLUICE_CASE(WaitsForTheWrongStage, kCopy, "the target of the asynchronous copy that thread"),
    SLUICE_CASE(ReadsAnothersCopy, kRace, "nothing that orders them"),
    SLUICE_CASE(CopiesIntoWhatIsBeingRead, kRace, "nothing that orders them"),
    SLUICE_CASE(ChangesTheSourceOfACopy, kCopy, "the source of the asynchronous copy that thread"),
    SLUICE_CASE(CopiesToGlobalMemory, kOutOfBounds, "as an asynchronous copy's target"),
    SLUICE_CASE(NeverWaits, kCopy, "never waited for"),
    SLUICE_CASE(BarrierInABranch, kBarrier, "ended"),
    SLUICE_CASE(ReturnsBeforeABarrier, kBarrier, "ended"),
    SLUICE_CASE(ShufflesInABranch, kWarp, "mask 0xffffffff"),
    SLUICE_CASE(DeclaresTooMuch, kSharedMemory, "51200 bytes of shared memory"),
};

class CheckedKernels : public ::testing::TestWithParam<Case> {};

TEST_P(CheckedKernels, BrokenOnesAreFoundUnderEveryOrder) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const LaunchReport report = Launched(GetParam().broken, seed);
    ASSERT_EQ(report.findings.size(), 1U) << "seed " << seed;
    const std::string text = report.findings[0].ToString();
    EXPECT_EQ(report.findings[0].kind, GetParam().kind) << text;
    EXPECT_THAT(text, HasSubstr(GetParam().says));
    EXPECT_THAT(text, HasSubstr("tests/simt/checked/"));
    EXPECT_THAT(text, HasSubstr("kernel broken, block ("));
  }
}

TEST_P(CheckedKernels, SoundOnesAreNeverBlamed) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    const LaunchReport report = Launched(GetParam().sound, seed);
    ASSERT_TRUE(report.findings.empty())
        << "seed " << seed << ": " << report.findings[0].ToString();
    EXPECT_EQ(report.blocks, kBlocks);
  }
}

constexpr uint32_t kLineOfPlainRead = __LINE__ + 2;
__attribute__((noinline)) uint32_t Sum(const uint32_t* words, uint32_t n) {
  return n == 0 ? 0 : words[n - 1] + Sum(words, n - 1);
}
constexpr uint32_t kLineOfCopy = __LINE__ + 3;
void CopiesAcrossTheEnd() {
  SLUICE_SHARED(uint32_t, stage, [kThreads * 4]);
  cuda::CopyAsync16(stage, arrays.in + kWords + 4);
}
void ReadsAcrossTheEnd() {
  if (BlockIndex().x == 1 && Mine() == 17) arrays.out[0] = Sum(arrays.in + kWords - 2, 3);
}

TEST(Checked, AFindingNamesTheLineTheBlockAndTheThread) {
  for (const uint64_t seed : {0, 3}) {
    const LaunchReport report = Launched(ReadsAcrossTheEnd, seed);
    ASSERT_EQ(report.findings.size(), 1U);
    const Finding& finding = report.findings[0];
    EXPECT_STREQ(finding.site.file, "tests/simt/checked/checked_test.cc");
    EXPECT_EQ(finding.site.line, kLineOfPlainRead);
    EXPECT_EQ(finding.block.x, 1U);
    EXPECT_EQ(finding.thread, 17U);
  }
  const LaunchReport report = Launched(CopiesAcrossTheEnd, 0);
  ASSERT_EQ(report.findings.size(), 1U);
  EXPECT_EQ(report.findings[0].site.line, kLineOfCopy);
}

INSTANTIATE_TEST_SUITE_P(All, CheckedKernels, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice::simt
