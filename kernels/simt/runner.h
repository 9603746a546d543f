// One launch of a kernel in the emulator: its threads, where they wait, and who goes on. Private to
// this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/checked.h"
#include "kernels/simt/fiber.h"
#include "kernels/simt/grid.h"

namespace sluice::simt {

inline constexpr size_t kMaxSharedBytes = 227 * 1024;
// The checked build keeps variables apart, so that what leaves one is seen; by whole rounds of the
// banks, so that conflicts stay what they are.
inline constexpr size_t kGapBytes = 128, kMaxGaps = 64;
inline constexpr size_t kSharedArenaBytes = kMaxSharedBytes + kMaxGaps * kGapBytes;
inline constexpr uint32_t kMaxGridYZ = 65535;
inline constexpr uint32_t kMaxMasks = 4;  // of one warp that are waited for at once
inline constexpr int kLeftover = 0xCD;    // what memory holds that nobody wrote

inline uint32_t BitOf(uint32_t lane) { return 1U << lane; }

// xorshift64*: any sequence that the seed decides will do.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15 | 1) {}
  uint32_t Below(uint32_t n) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545F4914F6CDD1D >> 32) * n >> 32);
  }

 private:
  uint64_t state_;
};

struct Warp;

struct AsyncCopy {
  std::byte* to;
  const std::byte* from;
  bool filled, read;  // read: `bytes` are what was at `from` when the copy began
  std::byte bytes[16];
  Site site;
};

struct Thread {
  Fiber fiber;
  ThreadPlace place;
  Warp* warp = nullptr;
  uint32_t index = 0;  // in the block
  bool began = false, ended = false;
  std::vector<AsyncCopy> copies;      // under way, oldest first
  std::vector<uint32_t> copy_groups;  // ended ones: their sizes, oldest first
  const char* waits_in = "";
  Site waits_at;
};

struct Meeting {  // of the lanes of a mask
  uint32_t mask = 0, arrived = 0;
  WarpOperation operation = nullptr;
  void* arguments[kWarpThreads] = {};
  Site site;
};

struct Warp {
  Thread* lanes = nullptr;
  uint32_t live = 0, runnable = 0;  // by lane
  Meeting meetings[kMaxMasks];
};

struct NamedBarrier {
  uint32_t count = 0, arrived = 0;
  uint32_t waiting[kMaxBlockThreads / kWarpThreads] = {};  // by lane, of each warp
  Site site;
};

// One launch. Everything in it runs on one thread of the operating system.
class Runner {
 public:
  Runner(const Launch& launch, void (*thread)(const void*), const void* context)
      : launch_(launch), main_(thread), context_(context), random_(launch.seed) {}

  LaunchReport Run();

  Thread& current() { return *current_; }
  void Wait(uint32_t id, uint32_t count, Site site);
  void Meet(uint32_t mask, void* argument, WarpOperation operation, Site site);
  void CountMatrixInstruction() { ++report_.matrix_instructions; }
  void MeetInOrder(uint32_t mask, Site site);
  void CheckAligned(const void* address, size_t bytes, Site site);
  void Copy(void* to, const void* from, bool filled, Site site);
  void EndGroup();
  void WaitForGroups(uint32_t left);
  void* Shared(const void* key, size_t bytes, size_t alignment, Site site);
  [[nodiscard]] std::byte* shared() { return shared_lines_[0].bytes; }
  void Announce(const void* address, size_t bytes, AccessKind kind, Site site);
  void Fence();
  void ThreadMain();

  // --- for the checker ---

  [[nodiscard]] Checker* checker() { return checker_.get(); }
  [[nodiscard]] uint64_t seed() const { return launch_.seed; }
  uint32_t Choose(uint32_t below) { return random_.Below(below); }
  [[nodiscard]] bool OnStack(const void* address) const {
    return static_cast<size_t>(static_cast<const std::byte*>(address) - stacks_.get()) <
           threads_.size() * kStackBytes;
  }
  // Of what Place() returns.
  [[nodiscard]] bool IsPlace(uintptr_t address) const {
    return address - reinterpret_cast<uintptr_t>(threads_.data()) <
           threads_.size() * sizeof(Thread);
  }
  struct Extent {
    size_t begin, bytes;  // in shared memory
  };
  // The shared variable that `offset` is in, or else the last before it.
  [[nodiscard]] Extent VariableAt(size_t offset) const;
  // Lets another thread go on, perhaps.
  void Preempt();
  // Runs what needs more than a fiber's stack.
  void OnHost(const std::function<void()>& errand);
  // Leaves the block as it stands: its threads are never continued.
  [[noreturn]] void Stop(FindingKind kind, Site site, std::string message);

 private:
  struct SharedVariable {
    const void* key;
    Extent extent;
  };

  bool ConfigurationIsLegal();
  void RunBlock(Dim3 index);
  void ResetBlock(Dim3 index);
  Thread* Next();
  Warp* NextWarp();
  void Park(const char* in, Site site);
  void SwitchTo(Thread& next);
  void Release(NamedBarrier& barrier);
  void JoinLanes(uint32_t warp, uint32_t lanes);
  void EndThread();
  [[noreturn]] void StopInDeadlock();
  void Note(FindingKind kind, Site site, std::string message);

  const Launch& launch_;
  void (*const main_)(const void*);
  const void* const context_;
  Random random_;
  LaunchReport report_;

  Fiber host_;
  Thread* current_ = nullptr;
  std::unique_ptr<std::byte[]> stacks_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  uint32_t num_live_ = 0;
  NamedBarrier barriers_[kNumBarriers];
  struct alignas(128) Line {
    std::byte bytes[128];
  };
  std::unique_ptr<Line[]> shared_lines_;  // dynamic memory, then the variables
  size_t shared_used_ = 0;
  std::vector<SharedVariable> variables_;

  std::unique_ptr<Checker> checker_;  // null in a program without checked kernels
  std::vector<uint32_t> joined_;      // threads, for the checker
  const std::function<void()>* errand_ = nullptr;
};

// The launch that the calling thread of the operating system is in; null outside.
extern thread_local Runner* running;

}  // namespace sluice::simt
