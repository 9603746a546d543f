// Which accesses of a launch come before which, whatever order the emulator happened to run them
// in: vector clocks, as barriers, SyncWarp, fences and atomic operations order threads. Private to
// this folder.
//
// Every thread has a time, which its accesses are marked with and which moves on when it makes them
// known to others; and it has seen of every thread of its block the time up to which that one's
// accesses come before its own. Shuffles, votes and matrix instructions order nothing.
//
// Between blocks: what a thread has done or seen before its fence, and what other threads did
// before fences of their own and it has seen since, is known to whoever touches the same address
// atomically after its next atomic operation there, and makes a fence after that: without it, a
// card may read what its cache held before. This is the pattern of the CUDA programming guide's
// example of a last block ("Memory Fence Functions") with the fence on the reading side that the
// PTX ISA asks for ("Memory Consistency Model", release and acquire patterns).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "kernels/simt/shadow.h"

namespace sluice::simt {

class Order {
 public:
  // `now`: the time at which earlier launches ended; end() is this one's.
  explicit Order(Time now) : now_(now), launch_begin_(now + 1) {}

  void BeginBlock(uint32_t num_threads);
  // The threads have met: each has seen what all have done.
  void Join(const std::vector<uint32_t>& threads);
  void Fence(uint32_t thread);
  void Atomic(uint32_t thread, uintptr_t address);

  // Whether an access of this launch comes before what `thread` does now.
  [[nodiscard]] bool Before(const Mark& mark, uint32_t thread) const;
  [[nodiscard]] bool OfThisBlock(const Mark& mark) const { return mark.time >= block_begin_; }

  [[nodiscard]] Time now(uint32_t thread) const { return threads_[thread].now; }
  [[nodiscard]] Time launch_begin() const { return launch_begin_; }
  [[nodiscard]] Time block_begin() const { return block_begin_; }
  [[nodiscard]] Time end() const { return now_; }

 private:
  using Times = std::vector<Time>;                     // by thread of a block
  using BlockTimes = std::map<uint32_t, Times>;        // by turn of the block in the launch
  struct Clock {                                       // what a thread has seen
    Times seen;                                        // of its own block
    std::shared_ptr<const BlockTimes> other_blocks{};  // null: nothing
  };
  struct Thread {
    Time now = 0;
    std::shared_ptr<const Clock> clock;
    Time fenced = 0;                     // what it did up to then is before a fence of its own
    std::shared_ptr<const Clock> fence;  // the clock at its last fence, itself included
    BlockTimes learnt;                   // by atomic operations since; seen from the next fence on
  };

  void Tick(Thread& thread);
  void See(Thread& thread, const BlockTimes& learnt);
  void Publish(uint32_t thread, BlockTimes& published) const;

  Time now_;
  Time launch_begin_, block_begin_ = 0;
  std::vector<Time> block_begins_;  // by turn
  std::vector<Thread> threads_;
  std::unordered_map<uintptr_t, BlockTimes> published_;  // by address of atomic operations
};

}  // namespace sluice::simt
