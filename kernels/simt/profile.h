// What a launch asks of the memories, counted by the checked build: figures that depend on the
// kernel and its arguments alone, whatever the seed.
//
// A warp's request is what its lanes ask for at one place of the code: of a place that they come to
// several times, the n-th visit of each lane since they last met. Lanes of one visit that a card
// would run apart are taken together, so that the counts are lower bounds there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::simt {

struct MemoryCounters {
  // Different sectors of 32 bytes of global memory: what DRAM must move if the L2 cache keeps them.
  uint64_t dram_read_sectors = 0, dram_written_sectors = 0;
  // Sectors that warps' requests touch; and how few could hold as many different bytes.
  uint64_t l2_sectors = 0, l2_ideal_sectors = 0;
  // Turns of the 32 banks that warps' requests take: one each where there are no conflicts, two for
  // 8 bytes a lane, four for 16.
  uint64_t shared_wavefronts = 0, shared_ideal_wavefronts = 0;

  MemoryCounters& operator+=(const MemoryCounters& other);
};

// Whether checked launches from now on count; it makes them slower. At the start: no. Not while a
// launch runs.
void CountMemory(bool count);
[[nodiscard]] bool MemoryIsCounted();

}  // namespace sluice::simt
