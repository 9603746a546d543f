// Threads that run a command list in order, all together, with a spin barrier after each command:
// no wake-up per op.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "kernels/cpu/command_list.h"

namespace sluice::cpu {

// Whoever calls Run computes, too; callers take turns, a list at a time, in the order they came.
// Between lists the other threads spin for 50 microseconds, then sleep.
//
// Items of a command: three quarters are split evenly beforehand, so that each thread streams
// through its own part of the weights; the rest is handed out `grain` at a time, so that a thread
// that lost its core delays the others little.
class ThreadPool {
 public:
  // scratch_bytes: for each thread, zeroed once.
  ThreadPool(int32_t num_threads, int64_t scratch_bytes);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int32_t num_threads() const { return num_threads_; }

  // Runs every command; returns when all are done. Thread-safe.
  void Run(std::span<const Command> commands);

 private:
  void Work(int32_t thread);
  void RunList(std::span<const Command> commands, int32_t thread);
  void RunCommand(const Command& command, const Worker& worker);
  void AwaitOthers();

  int32_t num_threads_;
  std::vector<Worker> workers_;
  std::vector<std::unique_ptr<char[]>> scratch_;
  // A mutex would mostly go back to the engine that has just ended its step.
  alignas(128) std::atomic<uint32_t> next_turn_{0};
  std::atomic<uint32_t> turn_{0};
  std::span<const Command> commands_;               // written before start_ is raised
  bool stop_ = false;                               // the same
  alignas(128) std::atomic<uint32_t> start_{0};     // raised once a list
  alignas(128) std::atomic<uint32_t> phase_{0};     // raised once a barrier
  alignas(128) std::atomic<int32_t> arrived_{0};    // at the current barrier
  alignas(128) std::atomic<int64_t> next_item_{0};  // of the current command's shared rest
  std::vector<std::thread> threads_;
};

}  // namespace sluice::cpu
