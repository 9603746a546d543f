// One launch of a kernel in the emulator: its threads, where they wait, and who goes on. Private to
// this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/fiber.h"
#include "kernels/simt/grid.h"

namespace sluice::simt {

inline constexpr size_t kMaxSharedBytes = 227 * 1024;
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
  void CheckAligned(const void* address, size_t bytes, Site site);
  void Copy(void* to, const void* from, bool filled, Site site);
  void EndGroup();
  void WaitForGroups(uint32_t left);
  void* Shared(const void* key, size_t bytes, size_t alignment, Site site);
  [[nodiscard]] std::byte* shared() { return shared_lines_[0].bytes; }
  void ThreadMain();

 private:
  struct SharedVariable {
    const void* key;
    size_t offset;
  };

  bool ConfigurationIsLegal();
  void RunBlock(Dim3 index);
  void ResetBlock(Dim3 index);
  Thread* Next();
  Warp* NextWarp();
  void Park(const char* in, Site site);
  void SwitchTo(Thread& next);
  void Release(NamedBarrier& barrier);
  void EndThread();
  [[noreturn]] void Stop(FindingKind kind, Site site, std::string message);
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
};

// The launch that the calling thread of the operating system is in; null outside.
extern thread_local Runner* running;

}  // namespace sluice::simt
