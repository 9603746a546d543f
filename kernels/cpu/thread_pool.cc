#include "kernels/cpu/thread_pool.h"

#include <algorithm>
#include <chrono>

#include "base/thread_name.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sluice::cpu {
namespace {

// A barrier opens within about 40 ns when every thread has a core; far past that a thread has lost
// its core, and spinning on would keep it from coming back.
constexpr int kBarrierSpins = 1000;
// The engine's work between two steps is 10 to 40 microseconds.
constexpr std::chrono::microseconds kIdleSpin{50};

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int32_t num_threads, int64_t scratch_bytes)
    : num_threads_(std::max(num_threads, 1)) {
  for (int32_t i = 0; i < num_threads_; ++i) {
    scratch_.push_back(std::make_unique<char[]>(static_cast<size_t>(scratch_bytes) + 64));
    const auto address = reinterpret_cast<uintptr_t>(scratch_.back().get());
    workers_.push_back(
        {i, reinterpret_cast<char*>((address + 63) & ~uintptr_t{63}), scratch_bytes});
  }
  for (int32_t i = 1; i < num_threads_; ++i) {
    threads_.emplace_back([this, i] {
      NameThread("kernel");
      Work(i);
    });
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  start_.fetch_add(1, std::memory_order_release);
  start_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(std::span<const Command> commands) {
  if (commands.empty()) return;
  const uint32_t mine = next_turn_.fetch_add(1, std::memory_order_relaxed);
  for (uint32_t now = turn_.load(std::memory_order_acquire); now != mine;
       now = turn_.load(std::memory_order_acquire)) {
    turn_.wait(now, std::memory_order_acquire);
  }
  if (num_threads_ > 1) {
    commands_ = commands;
    start_.fetch_add(1, std::memory_order_release);
    start_.notify_all();
  }
  RunList(commands, 0);
  turn_.fetch_add(1, std::memory_order_release);
  turn_.notify_all();
}

void ThreadPool::Work(int32_t thread) {
  uint32_t seen = 0;
  while (true) {
    const auto give_up = std::chrono::steady_clock::now() + kIdleSpin;
    while (start_.load(std::memory_order_acquire) == seen) {
      for (int i = 0; i < 32; ++i) Pause();
      if (std::chrono::steady_clock::now() < give_up) continue;
      start_.wait(seen, std::memory_order_acquire);
    }
    ++seen;  // Run cannot raise start_ twice while this thread has not come through the list's
             // barriers
    if (stop_) return;
    RunList(commands_, thread);
  }
}

void ThreadPool::RunList(std::span<const Command> commands, int32_t thread) {
  for (const Command& command : commands) {
    const Worker& worker = workers_[static_cast<size_t>(thread)];
    if (command.each_thread) {
      command.invoke(command, 0, command.num_items, worker);
      continue;
    }
    RunCommand(command, worker);
    AwaitOthers();
  }
}

void ThreadPool::RunCommand(const Command& command, const Worker& worker) {
  if (num_threads_ == 1) {
    command.invoke(command, 0, command.num_items, worker);
    return;
  }
  const int64_t grain = command.grain;
  const int64_t share = command.num_items * 3 / 4 / num_threads_ / grain * grain;
  if (share > 0)
    command.invoke(command, worker.thread * share, (worker.thread + 1) * share, worker);
  const int64_t rest = share * num_threads_;
  while (true) {
    const int64_t begin = rest + next_item_.fetch_add(grain, std::memory_order_relaxed);
    if (begin >= command.num_items) return;
    command.invoke(command, begin, std::min(begin + grain, command.num_items), worker);
  }
}

void ThreadPool::AwaitOthers() {
  if (num_threads_ == 1) return;
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    next_item_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  int spins = 0;
  while (phase_.load(std::memory_order_acquire) == phase) {
    if (++spins < kBarrierSpins) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace sluice::cpu
