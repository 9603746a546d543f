#include "kernels/simt/profile.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/simt/profile_requests.h"

namespace sluice::simt {
namespace {

constexpr size_t kSectorBytes = 32, kNumBanks = 32, kBankBytes = 4;

bool counting = false;

// The lanes' bytes as half-open ranges, ascending.
std::vector<std::pair<uintptr_t, uintptr_t>> RangesOf(const RequestCounter::Request& request) {
  std::vector<std::pair<uintptr_t, uintptr_t>> ranges;
  for (uint32_t lanes = request.lanes; lanes != 0; lanes &= lanes - 1) {
    const uintptr_t begin = request.address[std::countr_zero(lanes)];
    ranges.emplace_back(begin, begin + request.bytes);
  }
  std::ranges::sort(ranges);
  return ranges;
}

void CountGlobal(const RequestCounter::Request& request, MemoryCounters& counters) {
  uintptr_t next_sector = 0, next_byte = 0;  // behind what is counted
  uint64_t sectors = 0, bytes = 0;
  for (const auto& [begin, end] : RangesOf(request)) {
    if (end > next_byte) bytes += end - std::max(begin, next_byte);
    next_byte = std::max(next_byte, end);
    const uintptr_t last = (end - 1) / kSectorBytes + 1;
    const uintptr_t first = std::max(begin / kSectorBytes, next_sector);
    if (last > first) sectors += last - first;
    next_sector = std::max(next_sector, last);
  }
  counters.l2_sectors += sectors;
  counters.l2_ideal_sectors += (bytes + kSectorBytes - 1) / kSectorBytes;
}

// The words of one bank that a turn's lanes want, each once, are served one after the other.
uint64_t WavefrontsOf(const RequestCounter::Request& request, uint32_t first, uint32_t count) {
  std::vector<uintptr_t> words[kNumBanks];
  for (uint32_t lane = first; lane < first + count; ++lane) {
    if ((request.lanes >> lane & 1) == 0) continue;
    const uintptr_t begin = request.address[lane] / kBankBytes;
    const uintptr_t end = (request.address[lane] + request.bytes - 1) / kBankBytes + 1;
    for (uintptr_t word = begin; word < end; ++word) {
      std::vector<uintptr_t>& bank = words[word % kNumBanks];
      if (std::ranges::find(bank, word) == bank.end()) bank.push_back(word);
    }
  }
  size_t most = 0;
  for (const auto& bank : words) most = std::max(most, bank.size());
  return most;
}

void CountShared(const RequestCounter::Request& request, MemoryCounters& counters) {
  const uint32_t lanes_a_turn = request.bytes <= 4 ? 32 : request.bytes <= 8 ? 16 : 8;
  for (uint32_t first = 0; first < kWarpThreads; first += lanes_a_turn) {
    const uint64_t wavefronts = WavefrontsOf(request, first, lanes_a_turn);
    counters.shared_wavefronts += wavefronts;
    counters.shared_ideal_wavefronts += wavefronts == 0 ? 0 : 1;
  }
}

}  // namespace

MemoryCounters& MemoryCounters::operator+=(const MemoryCounters& other) {
  dram_read_sectors += other.dram_read_sectors;
  dram_written_sectors += other.dram_written_sectors;
  l2_sectors += other.l2_sectors;
  l2_ideal_sectors += other.l2_ideal_sectors;
  shared_wavefronts += other.shared_wavefronts;
  shared_ideal_wavefronts += other.shared_ideal_wavefronts;
  return *this;
}

void CountMemory(bool count) { counting = count; }
bool MemoryIsCounted() { return counting; }

void RequestCounter::Global(const Allocation& memory, uintptr_t address, size_t bytes, bool writes,
                            SiteTable::Id site, uint32_t warp, uint32_t lane) {
  Sectors& sectors = sectors_[&memory];
  std::vector<bool>& touched = writes ? sectors.written : sectors.read;
  const uintptr_t base = memory.begin / kSectorBytes;
  touched.resize((memory.begin + memory.bytes) / kSectorBytes - base + 1);
  uint64_t& count = writes ? counters_.dram_written_sectors : counters_.dram_read_sectors;
  for (uintptr_t s = address / kSectorBytes; s <= (address + bytes - 1) / kSectorBytes; ++s) {
    count += touched[s - base] ? 0 : 1;
    touched[s - base] = true;
  }
  Add(site * 4U + (writes ? 1 : 0), address, bytes, warp, lane);
}

void RequestCounter::Shared(size_t offset, size_t bytes, bool writes, SiteTable::Id site,
                            uint32_t warp, uint32_t lane) {
  Add(site * 4U + 2 + (writes ? 1 : 0), offset, bytes, warp, lane);
}

void RequestCounter::Add(Key key, uintptr_t address, size_t bytes, uint32_t warp, uint32_t lane) {
  if (warps_.size() <= warp) warps_.resize(warp + 1);
  Visits& visits = warps_[warp][key];
  const uint32_t visit = visits.by_lane[lane]++;
  if (visits.requests.size() <= visit) visits.requests.resize(visit + 1);
  Request& request = visits.requests[visit];
  request.lanes |= 1U << lane;
  request.bytes = std::max(request.bytes, bytes);
  request.address[lane] = address;
}

void RequestCounter::LanesMet(uint32_t warp) {
  if (warps_.size() <= warp) return;
  for (auto& [key, visits] : warps_[warp]) {
    if (visits.requests.empty()) continue;
    for (const Request& request : visits.requests) {
      if ((key & 2) != 0) {
        CountShared(request, counters_);
      } else {
        CountGlobal(request, counters_);
      }
    }
    visits = {};
  }
}

void RequestCounter::AllMet() {
  for (uint32_t warp = 0; warp < warps_.size(); ++warp) LanesMet(warp);
}

}  // namespace sluice::simt
