#include "kernels/simt/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "kernels/simt/runner.h"

namespace sluice::simt {

LaunchReport Runner::Run() {
  if (!ConfigurationIsLegal()) return std::move(report_);
  const auto num_threads = static_cast<uint32_t>(launch_.block.count());
  threads_.resize(num_threads);
  warps_.resize((num_threads + kWarpThreads - 1) / kWarpThreads);
  stacks_ = std::make_unique_for_overwrite<std::byte[]>(num_threads * kStackBytes);
  shared_lines_ = std::make_unique_for_overwrite<Line[]>(kSharedArenaBytes / sizeof(Line));
  checker_ = Checker::Begin(*this);
  Runner* const outer = std::exchange(running, this);
  const uint64_t num_blocks = launch_.grid.count();
  const uint64_t first =
      launch_.seed == 0
          ? 0
          : random_.Below(static_cast<uint32_t>(std::min<uint64_t>(num_blocks, UINT32_MAX)));
  for (uint64_t i = 0; i < num_blocks && report_.findings.empty(); ++i) {
    const uint64_t b = (first + i) % num_blocks;
    const Dim3& g = launch_.grid;
    RunBlock({static_cast<uint32_t>(b % g.x), static_cast<uint32_t>(b / g.x % g.y),
              static_cast<uint32_t>(b / g.x / g.y)});
  }
  running = outer;
  if (checker_ != nullptr) report_.memory = checker_->counters();
  checker_ = nullptr;
  return std::move(report_);
}

bool Runner::ConfigurationIsLegal() {
  const Dim3 &grid = launch_.grid, &block = launch_.block;
  const auto refuse = [this](FindingKind kind, std::string message) {
    Note(kind, {}, std::move(message));
    return false;
  };
  if (block.count() < 1 || block.count() > kMaxBlockThreads || block.z > 64) {
    return refuse(FindingKind::kLaunch,
                  fmt::format("a block of {} x {} x {} threads; 1 to {} are allowed, 64 along z",
                              block.x, block.y, block.z, kMaxBlockThreads));
  }
  if (grid.count() < 1 || grid.x > INT32_MAX || grid.y > kMaxGridYZ || grid.z > kMaxGridYZ) {
    return refuse(FindingKind::kLaunch,
                  fmt::format("a grid of {} x {} x {} blocks; at most {} are allowed along y and z",
                              grid.x, grid.y, grid.z, kMaxGridYZ));
  }
  const size_t limit = std::min(launch_.max_shared_bytes, kMaxSharedBytes);
  if (launch_.dynamic_shared_bytes > limit) {
    return refuse(FindingKind::kSharedMemory,
                  fmt::format("{} bytes of dynamic shared memory; {} are allowed",
                              launch_.dynamic_shared_bytes, limit));
  }
  return true;
}

void Runner::ResetBlock(Dim3 index) {
  const Dim3& size = launch_.block;
  num_live_ = static_cast<uint32_t>(threads_.size());
  for (uint32_t i = 0; i < num_live_; ++i) {
    Thread& t = threads_[i];
    t.place = {.thread = {i % size.x, i / size.x % size.y, i / size.x / size.y},
               .block = index,
               .block_size = size,
               .grid_size = launch_.grid,
               .lane = i % kWarpThreads,
               .warp = i / kWarpThreads};
    t.warp = &warps_[t.place.warp];
    t.index = i;
    t.began = t.ended = false;
    t.copies.clear();
    t.copy_groups.clear();
  }
  for (size_t w = 0; w < warps_.size(); ++w) {
    const auto lanes = std::min<size_t>(kWarpThreads, threads_.size() - w * kWarpThreads);
    warps_[w] = {.lanes = &threads_[w * kWarpThreads]};
    warps_[w].live = warps_[w].runnable =
        lanes == 32 ? ~0U : BitOf(static_cast<uint32_t>(lanes)) - 1;
  }
  for (NamedBarrier& barrier : barriers_) barrier = {};
  variables_.clear();
  shared_used_ = launch_.dynamic_shared_bytes;
  std::memset(shared(), kLeftover, kMaxSharedBytes);
  if (checker_ != nullptr) checker_->BeginBlock(num_live_);
}

void Runner::RunBlock(Dim3 index) {
  ResetBlock(index);
  current_ = nullptr;
  Thread& first = *Next();
  current_ = &first;
  PrepareFiber(first.fiber, stacks_.get() + first.index * kStackBytes,
               [] { running->ThreadMain(); });
  first.began = true;
  SwitchFiber(host_, first.fiber, false);
  while (errand_ != nullptr) {
    (*std::exchange(errand_, nullptr))();
    SwitchFiber(host_, current_->fiber, false);
  }
  current_ = nullptr;
  if (checker_ != nullptr) checker_->EndBlock();
  ++report_.blocks;
  report_.threads += threads_.size();
}

void* Runner::Shared(const void* key, size_t bytes, size_t alignment, Site site) {
  for (const SharedVariable& variable : variables_) {
    if (variable.key == key) return shared() + variable.extent.begin;
  }
  alignment = std::max<size_t>(alignment, 16);
  const size_t offset = (shared_used_ + alignment - 1) / alignment * alignment;
  // What is declared, not asked for at the launch, is limited to 48 KiB on every card.
  if (offset + bytes - launch_.dynamic_shared_bytes > 48 * 1024 ||
      offset + bytes > std::min(launch_.max_shared_bytes, kMaxSharedBytes)) {
    Stop(FindingKind::kSharedMemory, site,
         fmt::format("{} bytes of shared memory on top of {}; {} are allowed, 48 KiB of them "
                     "declared",
                     bytes, offset, launch_.max_shared_bytes));
  }
  shared_used_ = offset + bytes;
  const size_t gaps = std::min(variables_.size() + 1, kMaxGaps) * kGapBytes;
  variables_.push_back({key, {offset + (checker_ == nullptr ? 0 : gaps), bytes}});
  return shared() + variables_.back().extent.begin;
}

Runner::Extent Runner::VariableAt(size_t offset) const {
  Extent nearest = {0, launch_.dynamic_shared_bytes};
  for (const SharedVariable& variable : variables_) {
    if (variable.extent.begin <= offset) nearest = variable.extent;
  }
  return nearest;
}

void Runner::Note(FindingKind kind, Site site, std::string message) {
  Finding finding{
      .kind = kind, .message = std::move(message), .kernel = launch_.kernel, .site = site};
  if (current_ != nullptr) {
    finding.block = current_->place.block;
    finding.thread = current_->index;
  }
  report_.findings.push_back(std::move(finding));
}

namespace {

Runner& Running() {
  SLUICE_CHECK(running != nullptr, "outside a kernel");
  return *running;
}

}  // namespace

const char* FindingKindName(FindingKind kind) {
  switch (kind) {
    case FindingKind::kLaunch:
      return "launch";
    case FindingKind::kSharedMemory:
      return "shared memory";
    case FindingKind::kBarrier:
      return "barrier";
    case FindingKind::kWarp:
      return "warp";
    case FindingKind::kDeadlock:
      return "deadlock";
    case FindingKind::kMisaligned:
      return "misaligned";
    case FindingKind::kCopy:
      return "copy";
    case FindingKind::kOutOfBounds:
      return "out of bounds";
    case FindingKind::kUninitialised:
      return "uninitialised";
    case FindingKind::kRace:
      return "race";
  }
  return "";
}

std::string Finding::ToString() const {
  return fmt::format("{}:{}: {}: kernel {}, block ({}, {}, {}), thread {}: {}", site.file,
                     site.line, FindingKindName(kind), kernel, block.x, block.y, block.z, thread,
                     message);
}

LaunchReport RunGrid(const Launch& launch, void (*thread)(const void* context),
                     const void* context) {
  return Runner(launch, thread, context).Run();
}

const ThreadPlace& Place() { return Running().current().place; }
void Barrier(uint32_t id, uint32_t count, Site site) { Running().Wait(id, count, site); }
void Together(uint32_t mask, void* argument, WarpOperation operation, Site site) {
  Running().Meet(mask, argument, operation, site);
}
void CountMatrixInstruction() { Running().CountMatrixInstruction(); }
void WarpBarrier(uint32_t mask, Site site) { Running().MeetInOrder(mask, site); }
void CheckAligned(const void* address, size_t bytes, Site site) {
  Running().CheckAligned(address, bytes, site);
}
void Announce(const void* address, size_t bytes, AccessKind kind, Site site) {
  Running().Announce(address, bytes, kind, site);
}
void LoadAtOnce(void* to, const void* from, size_t bytes, Site site) {
  Running().Announce(from, bytes, AccessKind::kRead, site);
  std::memcpy(to, from, bytes);
}
void StoreAtOnce(void* to, const void* from, size_t bytes, Site site) {
  Running().Announce(to, bytes, AccessKind::kWrite, site);
  std::memcpy(to, from, bytes);
}
void Fence() { Running().Fence(); }
void CopyAsync(void* to, const void* from, bool filled, Site site) {
  Running().Copy(to, from, filled, site);
}
void EndCopyGroup() { Running().EndGroup(); }
void WaitForCopies(uint32_t groups) { Running().WaitForGroups(groups); }
void* SharedMemory(const void* key, size_t bytes, size_t alignment, Site site) {
  return Running().Shared(key, bytes, alignment, site);
}
void* DynamicSharedMemory() { return Running().shared(); }

}  // namespace sluice::simt
