// Gathers the accesses of lanes into the requests of warps. Private to this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "kernels/simt/checked_site.h"
#include "kernels/simt/grid.h"
#include "kernels/simt/profile.h"
#include "kernels/simt/shadow.h"

namespace sluice::simt {

class RequestCounter {
 public:
  struct Request {
    uint32_t lanes = 0;  // mask
    size_t bytes = 0;    // of each lane
    uintptr_t address[kWarpThreads] = {};
  };

  void Global(const Allocation& memory, uintptr_t address, size_t bytes, bool writes,
              SiteTable::Id site, uint32_t warp, uint32_t lane);
  void Shared(size_t offset, size_t bytes, bool writes, SiteTable::Id site, uint32_t warp,
              uint32_t lane);
  // The lanes of a warp are at one place.
  void LanesMet(uint32_t warp);
  void AllMet();

  [[nodiscard]] const MemoryCounters& counters() const { return counters_; }

 private:
  struct Visits {  // of one place, since the lanes last met
    uint32_t by_lane[kWarpThreads] = {};
    std::vector<Request> requests;
  };
  using Key = uint32_t;  // site, whether it writes, and which memory
  struct Sectors {
    std::vector<bool> read, written;
  };

  void Add(Key key, uintptr_t address, size_t bytes, uint32_t warp, uint32_t lane);

  std::vector<std::unordered_map<Key, Visits>> warps_;
  std::map<const Allocation*, Sectors> sectors_;
  MemoryCounters counters_;
};

}  // namespace sluice::simt
