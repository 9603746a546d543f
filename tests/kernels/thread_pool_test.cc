#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace sluice::cpu {
namespace {

// Counts how often each item ran, and checks that the command before was complete.
struct CountArgs {
  std::atomic<int32_t>* counts = nullptr;
  const int64_t* before = nullptr;  // sum that must be there already
  int64_t expected_before = 0;
  std::atomic<int32_t>* wrong = nullptr;
};
void Count(const CountArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  if (args.before != nullptr && *args.before != args.expected_before) args.wrong->fetch_add(1);
  for (int64_t i = begin; i < end; ++i) args.counts[i].fetch_add(1, std::memory_order_relaxed);
}

// A plain, unsynchronised write and read: the barrier alone must order them (ThreadSanitizer sees
// it if not).
struct StepArgs {
  const int64_t* in = nullptr;
  int64_t* out = nullptr;
  int64_t num = 0;
};
void ShiftAndAdd(const StepArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  for (int64_t i = begin; i < end; ++i) args.out[i] = args.in[(i + 1) % args.num] + 1;
}

class Pool : public testing::TestWithParam<int32_t> {};

TEST_P(Pool, RunsEveryItemOnceWhateverTheGrain) {
  ThreadPool pool(GetParam(), 64);
  for (const int64_t items : {1, 2, 3, 7, 8, 100, 1001}) {
    for (const int64_t grain : {1, 3, 8, 5000}) {
      std::vector<std::atomic<int32_t>> counts(static_cast<size_t>(items));
      CommandList list;
      list.Add<CountArgs>(Count, {counts.data()}, items, grain);
      list.Add<CountArgs>(Count, {counts.data()}, items, grain);
      pool.Run(list.commands());
      for (const auto& count : counts)
        ASSERT_EQ(count.load(), 2) << items << " items, grain " << grain;
    }
  }
}

TEST_P(Pool, ACommandSeesAllOfTheOneBefore) {
  constexpr int64_t kNum = 37;
  constexpr int kCommands = 100;
  ThreadPool pool(GetParam(), 64);
  std::vector<int64_t> a(kNum);
  std::vector<int64_t> b(kNum);
  CommandList list;
  for (int i = 0; i < kCommands; ++i) {
    const bool even = i % 2 == 0;
    list.Add<StepArgs>(ShiftAndAdd, {even ? a.data() : b.data(), even ? b.data() : a.data(), kNum},
                       kNum);
  }
  for (int run = 0; run < 4; ++run) pool.Run(list.commands());
  for (const int64_t v : a) ASSERT_EQ(v, 4 * kCommands);
}

struct ScratchArgs {
  int64_t value = 0;
  int64_t* out = nullptr;
};
void FillScratch(const ScratchArgs& args, int64_t begin, int64_t end, const Worker& worker) {
  for (int64_t i = begin; i < end; ++i)
    reinterpret_cast<int64_t*>(worker.scratch)[i] = args.value + i;
}
void CopyScratch(const ScratchArgs& args, int64_t begin, int64_t end, const Worker& worker) {
  for (int64_t i = begin; i < end; ++i)
    args.out[i] = reinterpret_cast<const int64_t*>(worker.scratch)[i];
}

TEST_P(Pool, ACommandForEachThreadFillsEveryScratch) {
  ThreadPool pool(GetParam(), 64 * sizeof(int64_t));
  for (int64_t run = 0; run < 50; ++run) {
    std::vector<int64_t> out(64);
    CommandList list;
    list.AddForEachThread<ScratchArgs>(FillScratch, {run}, 64);
    list.Add<ScratchArgs>(CopyScratch, {0, out.data()}, 64);
    pool.Run(list.commands());
    for (int64_t i = 0; i < 64; ++i) ASSERT_EQ(out[static_cast<size_t>(i)], run + i);
  }
}

TEST_P(Pool, ThreadsThatFellAsleepComeBack) {
  ThreadPool pool(GetParam(), 64);
  std::vector<std::atomic<int32_t>> counts(64);
  CommandList list;
  list.Add<CountArgs>(Count, {counts.data()}, 64);
  for (int i = 0; i < 20; ++i) {
    // Long past the spinning time: this waits for nothing, it makes the threads sleep.
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(300);
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
    pool.Run(list.commands());
  }
  for (const auto& count : counts) ASSERT_EQ(count.load(), 20);
}

TEST_P(Pool, ManyShortListsInARow) {
  ThreadPool pool(GetParam(), 64);
  std::vector<std::atomic<int32_t>> counts(3);
  CommandList list;
  list.Add<CountArgs>(Count, {counts.data()}, 3);
  for (int i = 0; i < 500; ++i) pool.Run(list.commands());
  for (const auto& count : counts) ASSERT_EQ(count.load(), 500);
}

TEST_P(Pool, AnEmptyListAndAnUnusedPoolEnd) {
  ThreadPool unused(GetParam(), 64);
  ThreadPool pool(GetParam(), 64);
  pool.Run({});
}

INSTANTIATE_TEST_SUITE_P(Threads, Pool, testing::Values(1, 2, 3, 5));

}  // namespace
}  // namespace sluice::cpu
