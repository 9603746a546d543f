// Small kernels, broken and sound: of each a template whose argument says which. For
// checked_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/matrix.h"
#include "kernels/simt/grid.h"

namespace sluice::simt {

using cuda::BlockIndex;
using cuda::ThreadIndex;

inline constexpr uint32_t kThreads = 64, kBlocks = 3;
inline constexpr size_t kWords = size_t{kThreads} * 4;  // of each array

// Memory of the kernels for one launch. `in` is written, `out` is not, `counter` is 0.
struct Arrays {
  uint32_t *in, *out, *counter;
  uint32_t* freed;
  uint32_t* of_host;
};
inline Arrays arrays;

inline uint32_t Mine() { return ThreadIndex().x; }
inline uint32_t MineOfAll() { return BlockIndex().x * kThreads + ThreadIndex().x; }
inline uint32_t Next() { return (ThreadIndex().x + 1) % kThreads; }

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
// The last block adds up what all have written. kFence: 0 none before the count, 1 of every thread,
// 2 of the one that counts; kFencedAfter: of the one that has counted.
template <int kFence, bool kFencedAfter = true>
void LastBlockReadsAll() {
  SLUICE_SHARED(uint32_t, is_last, [1]);
  arrays.out[MineOfAll()] = 1;
  if (kFence == 1) cuda::Fence();
  cuda::SyncBlock();
  if (Mine() == 0) {
    if (kFence == 2) cuda::Fence();
    is_last[0] = cuda::AtomicAdd(arrays.counter, 1) == kBlocks - 1 ? 1 : 0;
    if (kFencedAfter) cuda::Fence();
  }
  cuda::SyncBlock();
  if (is_last[0] == 0) return;
  for (uint32_t b = 0; b < kBlocks; ++b)
    arrays.out[MineOfAll()] += arrays.out[b * kThreads + Mine()];
  if (Mine() == 0) (void)cuda::AtomicAdd(arrays.counter, 0U - kBlocks);
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
void LastBlockReadsBehindAFence() {
  LastBlockReadsAll<2, !kBroken>();
}
template <bool kBroken>
void LastBlockCountsTooSoon() {
  SLUICE_SHARED(uint32_t, is_last, [1]);
  arrays.out[MineOfAll()] = 1;
  cuda::Fence();
  if (!kBroken) cuda::SyncBlock();
  if (Mine() == 0) {
    is_last[0] = cuda::AtomicAdd(arrays.counter, 1) == kBlocks - 1 ? 1 : 0;
    cuda::Fence();
  }
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

}  // namespace sluice::simt
