// The checked build of the emulator: small broken kernels of every kind that it must find under
// every order, and each one's sound twin, which it must never blame. This file is compiled as
// checked kernels are.
#include "kernels/simt/checked.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/matrix.h"
#include "kernels/simt/memory.h"

namespace sluice::simt {
namespace {

using cuda::BlockIndex;
using cuda::ThreadIndex;
using testing::HasSubstr;

constexpr uint32_t kThreads = 64, kBlocks = 3;
constexpr size_t kWords = size_t{kThreads} * 4;  // of each array

// Memory of the kernels for one launch. `in` is written, `out` is not, `counter` is 0.
struct Arrays {
  uint32_t *in, *out, *counter;
  uint32_t* freed;
  uint32_t* of_host;
} arrays;

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

uint32_t Mine() { return ThreadIndex().x; }
uint32_t MineOfAll() { return BlockIndex().x * kThreads + ThreadIndex().x; }
uint32_t Next() { return (ThreadIndex().x + 1) % kThreads; }

// --- outside ---

template <bool kBroken>
void ReadsOneTooMany() {
  uint32_t sum = 0;
  for (size_t i = Mine(); i < kWords + (kBroken ? 1 : 0); i += kThreads) sum += arrays.in[i];
  arrays.out[MineOfAll()] = sum;
}
template <bool kBroken>
void ReadsBefore() {
  const uint32_t* const last = arrays.in + (kBroken ? 0 : 1);
  arrays.out[MineOfAll()] = last[static_cast<ptrdiff_t>(Mine()) - 1];
}
template <bool kBroken>
void WritesBehind() {
  arrays.out[MineOfAll() + (kBroken ? kBlocks * kWords - kThreads + 1 : 0)] = 1;
}
template <bool kBroken>
void LeavesASharedVariable() {
  SLUICE_SHARED(uint32_t, first, [kThreads]);
  SLUICE_SHARED(uint32_t, second, [kThreads]);
  second[Mine()] = 1;
  first[Mine() + (kBroken ? 1 : 0)] = second[Mine()];
}
template <bool kBroken>
void LeavesDynamicMemory() {
  auto* const words = static_cast<uint32_t*>(DynamicSharedMemory());
  words[Mine() + (kBroken ? 1 : 0)] = 1;
}
template <bool kBroken>
void ReadsTheHost() {
  arrays.out[MineOfAll()] = (kBroken ? arrays.of_host : arrays.in)[Mine()];
}
template <bool kBroken>
void WritesTheHost() {
  (kBroken ? arrays.of_host : arrays.out)[MineOfAll() % kWords] = BlockIndex().x;
}
template <bool kBroken>
void ReadsWhatWasFreed() {
  arrays.out[MineOfAll()] = (kBroken ? arrays.freed : arrays.in)[Mine()];
}
template <bool kBroken>
void CopiesFromBehind() {
  SLUICE_SHARED(uint32_t, stage, [kThreads * 4]);
  const bool filled = kBroken || Mine() + 1 < kThreads;
  cuda::CopyAsync16(stage + Mine() * 4, arrays.in + (Mine() + 1) * 4, filled);
  cuda::EndCopies();
  cuda::WaitForCopies<0>();
}

// --- misaligned ---

template <bool kBroken>
void LoadsAtAnOddWord() {
  const cuda::Words4 words = cuda::LoadWords4(arrays.in + (Mine() % 8) * 4 + (kBroken ? 1 : 0));
  arrays.out[MineOfAll()] = words.word[0];
}
template <bool kBroken>
void StoresAtAnOddWord() {
  auto* const words = static_cast<uint32_t*>(DynamicSharedMemory());
  if (Mine() < 8) cuda::StoreWords4(words + Mine() * 4 + (kBroken ? 2 : 0), {});
}
template <bool kBroken>
void ReadsAWordAtAnOddByte() {
  const auto* const bytes = reinterpret_cast<const unsigned char*>(arrays.in);
  arrays.out[MineOfAll()] =
      *reinterpret_cast<const uint32_t*>(bytes + Mine() * 4 + (kBroken ? 2 : 0));
}

// --- uninitialised ---

template <bool kBroken>
void ReadsWhatNobodyWrote() {
  if (!kBroken) arrays.out[MineOfAll()] = 1;
  arrays.out[MineOfAll()] += 1;
}
template <bool kBroken>
void ReadsSharedThatNobodyWrote() {
  SLUICE_SHARED(uint32_t, words, [kThreads + 1]);
  words[Mine()] = 1;
  if (!kBroken && Mine() == 0) words[kThreads] = 1;
  cuda::SyncBlock();
  arrays.out[MineOfAll()] = words[Mine() + 1];
}
template <bool kBroken>
void LoadsMatricesThatNobodyWrote() {
  SLUICE_SHARED(uint16_t, tile, [2 * 32 * 8]);
  for (uint32_t i = 0; i < (kBroken ? 7 : 8); ++i) tile[Mine() * 8 + i] = 1;
  cuda::SyncBlock();
  uint32_t out[4];
  cuda::LoadMatrices(tile + Mine() * 8, out);
  arrays.out[MineOfAll()] = out[0];
}

// --- races within a block ---

template <bool kBroken>
void ReadsItsNeighbour() {
  SLUICE_SHARED(uint32_t, words, [kThreads]);
  words[Mine()] = 0;
  cuda::SyncBlock();
  words[Mine()] = 1;
  if (!kBroken) cuda::SyncBlock();
  if (!kBroken || Mine() == 63) arrays.out[MineOfAll()] = words[Mine() == 63 ? 62 : Next()];
}
template <bool kBroken>
void WritesWhatIsBeingRead() {
  SLUICE_SHARED(uint32_t, words, [kThreads]);
  for (uint32_t round = 0; round < 3; ++round) {
    words[Mine()] = round;
    cuda::SyncBlock();
    uint32_t sum = 0;
    for (const uint32_t word : words) sum += word;
    arrays.out[MineOfAll()] = sum;
    if (!kBroken) cuda::SyncBlock();
  }
}
template <bool kBroken>
void AllWriteOneWord() {
  SLUICE_SHARED(uint32_t, word, [1]);
  if (kBroken || Mine() == 0) word[0] = 1;
}
template <bool kBroken>
void WarpsWriteOneByte() {  // bytes of one word by different threads are no race
  auto* const bytes = static_cast<unsigned char*>(DynamicSharedMemory());
  bytes[kBroken ? Mine() % 32 : Mine()] = 1;
}
template <bool kBroken>
void ExchangesWithinAWarp() {
  SLUICE_SHARED(uint32_t, words, [kThreads]);
  words[Mine()] = 0;
  cuda::SyncBlock();
  words[Mine()] = 1;
  if (!kBroken) cuda::SyncWarp();
  arrays.out[MineOfAll()] = words[Mine() ^ 1];
}
template <bool kBroken>
void TakesAShuffleForABarrier() {
  SLUICE_SHARED(uint32_t, words, [kThreads]);
  words[Mine()] = 0;
  cuda::SyncBlock();
  words[Mine()] = 1;
  if (kBroken) {
    (void)cuda::GroupSum<32>(1);
  } else {
    cuda::SyncWarp();
  }
  arrays.out[MineOfAll()] = words[Mine() ^ 1];
}
template <bool kBroken>
void SyncsHalfAWarp() {
  SLUICE_SHARED(uint32_t, words, [kThreads]);
  const bool low = Mine() % 32 < 16;
  words[Mine()] = 0;
  cuda::SyncBlock();
  words[Mine()] = 1;
  cuda::SyncWarp(low ? 0x0000ffffU : 0xffff0000U);
  arrays.out[MineOfAll()] = words[kBroken ? Mine() ^ 16 : Mine() ^ 15];
}
template <bool kBroken>
void SyncsHalfABlock() {
  SLUICE_SHARED(uint32_t, words, [kThreads]);
  words[Mine()] = 0;
  cuda::SyncBlock();
  words[Mine()] = 1;
  if (Mine() < 32) {
    cuda::SyncSome<1, 32>();
  } else {
    cuda::SyncSome<2, 32>();
  }
  arrays.out[MineOfAll()] = words[kBroken ? Mine() ^ 32 : Mine() ^ 31];
}
template <bool kBroken>
void HandsOverByNamedBarriers() {  // one warp writes, the other reads, twice
  SLUICE_SHARED(uint32_t, words, [32]);
  if (Mine() < 32) words[Mine()] = 0;
  cuda::SyncBlock();
  for (uint32_t round = 0; round < 2; ++round) {
    if (Mine() < 32) {
      words[Mine()] = round;
    }
    cuda::SyncSome<1, 64>();
    if (Mine() >= 32) arrays.out[MineOfAll()] = words[63 - Mine()];
    if (!kBroken) cuda::SyncSome<2, 64>();
  }
}
template <bool kBroken>
void CountsInSharedMemory() {
  SLUICE_SHARED(uint32_t, count, [1]);
  if (Mine() == 0) count[0] = 0;
  cuda::SyncBlock();
  (void)cuda::AtomicAdd(count, 1);
  if (!kBroken) cuda::SyncBlock();
  if (Mine() == 0) arrays.out[BlockIndex().x] = count[0];
}
template <bool kBroken>
void LoadsMatricesBeforeTheyAreWritten() {
  SLUICE_SHARED(uint16_t, tile, [2 * 32 * 8]);
  for (uint32_t i = 0; i < 8; ++i) tile[Mine() * 8 + i] = 0;
  cuda::SyncBlock();
  for (uint32_t i = 0; i < 8; ++i) tile[(Mine() ^ 32) * 8 + i] = 1;
  if (!kBroken) cuda::SyncBlock();
  uint32_t out[4];
  cuda::LoadMatrices(tile + (kBroken ? Mine() ^ 33 : Mine()) * 8, out);
  arrays.out[MineOfAll()] = out[0];
}

// --- races of blocks ---

template <bool kBroken>
void BlocksWriteOneWord() {
  if (Mine() == 0) arrays.out[kBroken ? 0 : BlockIndex().x] = 1;
}
template <bool kBroken>
void BlocksReadEachOther() {
  arrays.in[MineOfAll()] = 1;
  arrays.out[MineOfAll()] = arrays.in[kBroken ? Mine() : MineOfAll()];
}
template <bool kBroken>
void BlocksCount() {
  if (Mine() != 0) return;
  if (kBroken) {
    arrays.counter[0] += 1;
  } else {
    (void)cuda::AtomicAdd(arrays.counter, 1);
  }
}
// The last block adds up what all have written. kFence: 0 none, 1 of every thread, 2 of the one
// that counts.
template <int kFence>
void LastBlockReadsAll() {
  SLUICE_SHARED(uint32_t, is_last, [1]);
  arrays.out[MineOfAll()] = 1;
  if (kFence == 1) cuda::Fence();
  cuda::SyncBlock();
  if (Mine() == 0) {
    if (kFence == 2) cuda::Fence();
    is_last[0] = cuda::AtomicAdd(arrays.counter, 1) == kBlocks - 1 ? 1 : 0;
  }
  cuda::SyncBlock();
  if (is_last[0] == 0) return;
  for (uint32_t b = 0; b < kBlocks; ++b)
    arrays.out[MineOfAll()] += arrays.out[b * kThreads + Mine()];
  if (Mine() == 0) arrays.counter[0] = 0;
}
template <bool kBroken>
void LastBlockFencedByAll() {
  LastBlockReadsAll<kBroken ? 0 : 1>();
}
template <bool kBroken>
void LastBlockFencedByOne() {
  LastBlockReadsAll<kBroken ? 0 : 2>();
}
template <bool kBroken>
void LastBlockCountsTooSoon() {
  SLUICE_SHARED(uint32_t, is_last, [1]);
  arrays.out[MineOfAll()] = 1;
  cuda::Fence();
  if (!kBroken) cuda::SyncBlock();
  if (Mine() == 0) is_last[0] = cuda::AtomicAdd(arrays.counter, 1) == kBlocks - 1 ? 1 : 0;
  cuda::SyncBlock();
  if (is_last[0] == 0) return;
  for (uint32_t b = 0; b < kBlocks; ++b) arrays.in[Mine()] += arrays.out[b * kThreads + Mine()];
}

// --- asynchronous copies ---

template <bool kBroken>
void ReadsACopyUnderWay() {
  SLUICE_SHARED(uint32_t, stage, [kThreads * 4]);
  cuda::CopyAsync16(stage + Mine() * 4, arrays.in + Mine() * 4);
  cuda::EndCopies();
  if (!kBroken) cuda::WaitForCopies<0>();
  arrays.out[MineOfAll()] = stage[Mine() * 4];
  cuda::WaitForCopies<0>();
}
template <bool kBroken>
void WaitsForTheWrongStage() {
  SLUICE_SHARED(uint32_t, stage, [2 * kThreads * 4]);
  for (uint32_t s = 0; s < 2; ++s) {
    cuda::CopyAsync16(stage + (s * kThreads + Mine()) * 4, arrays.in + Mine() * 4);
    cuda::EndCopies();
  }
  cuda::WaitForCopies<1>();
  arrays.out[MineOfAll()] = stage[((kBroken ? 1 : 0) * kThreads + Mine()) * 4];
  cuda::WaitForCopies<0>();
}
template <bool kBroken>
void ReadsAnothersCopy() {
  SLUICE_SHARED(uint32_t, stage, [kThreads * 4]);
  for (uint32_t i = 0; i < 4; ++i) stage[Mine() * 4 + i] = 0;
  cuda::SyncBlock();
  cuda::CopyAsync16(stage + Mine() * 4, arrays.in + Mine() * 4);
  cuda::EndCopies();
  cuda::WaitForCopies<0>();
  if (!kBroken) cuda::SyncBlock();
  arrays.out[MineOfAll()] = stage[Next() * 4];
}
template <bool kBroken>
void CopiesIntoWhatIsBeingRead() {
  SLUICE_SHARED(uint32_t, stage, [kThreads * 4]);
  uint32_t sum = 0;
  for (uint32_t round = 0; round < 2; ++round) {
    cuda::CopyAsync16(stage + Mine() * 4, arrays.in + Mine() * 4);
    cuda::EndCopies();
    cuda::WaitForCopies<0>();
    cuda::SyncBlock();
    sum += stage[Next() * 4];
    if (!kBroken) cuda::SyncBlock();
  }
  arrays.out[MineOfAll()] = sum;
}
template <bool kBroken>
void ChangesTheSourceOfACopy() {
  SLUICE_SHARED(uint32_t, stage, [kThreads * 4]);
  uint32_t* const source = arrays.out + BlockIndex().x * kWords;
  for (uint32_t i = 0; i < 4; ++i) source[Mine() * 4 + i] = i;
  cuda::CopyAsync16(stage + Mine() * 4, source + Mine() * 4);
  cuda::EndCopies();
  if (!kBroken) cuda::WaitForCopies<0>();
  cuda::SyncBlock();
  source[Next() * 4] = 1;
  cuda::WaitForCopies<0>();
}
template <bool kBroken>
void CopiesToGlobalMemory() {
  SLUICE_SHARED(uint32_t, stage, [kThreads * 4]);
  cuda::CopyAsync16((kBroken ? arrays.out : stage) + Mine() * 4, arrays.in);
  cuda::EndCopies();
  cuda::WaitForCopies<0>();
}
template <bool kBroken>
void NeverWaits() {
  SLUICE_SHARED(uint32_t, stage, [kThreads * 4]);
  cuda::CopyAsync16(stage + Mine() * 4, arrays.in + Mine() * 4);
  cuda::EndCopies();
  if (!kBroken) cuda::WaitForCopies<0>();
}

// --- what the emulator finds without hooks, found with them too ---

template <bool kBroken>
void BarrierInABranch() {
  if (!kBroken || Mine() < 40) cuda::SyncBlock();
}
template <bool kBroken>
void ReturnsBeforeABarrier() {
  if (kBroken && Mine() == 5) return;
  cuda::SyncBlock();
}
template <bool kBroken>
void ShufflesInABranch() {
  if (!kBroken || Mine() % 32 < 18) (void)cuda::GroupSum<32>(1);
}
template <bool kBroken>
void DeclaresTooMuch() {
  SLUICE_SHARED(uint32_t, words, [(kBroken ? 50 : 40) * 256]);
  words[Mine()] = 1;
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
    EXPECT_THAT(text, HasSubstr("checked_test.cc:"));
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
