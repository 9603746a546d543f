// Engines that share kernel threads take turns.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/cpu/command_list.h"
#include "kernels/cpu/thread_pool.h"

namespace sluice::cpu {
namespace {

struct CountArgs {
  std::atomic<int>* inside = nullptr;    // callers whose list is running
  std::atomic<bool>* overlap = nullptr;  // two were
  int64_t* sum = nullptr;                // of this caller alone; one item is one thread's
};

void Count(const CountArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  if (args.inside->fetch_add(1) != 0) args.overlap->store(true);
  *args.sum += end - begin;
  args.inside->fetch_sub(1);
}

TEST(ThreadPoolTurns, ListsOfSeveralCallersNeverOverlapAndAllRun) {
  constexpr int kCallers = 4, kLists = 300;
  ThreadPool pool(2, 64);
  std::atomic<int> inside{0};
  std::atomic<bool> overlap{false};
  std::vector<int64_t> sums(kCallers);
  std::vector<int> lists(kCallers);
  std::vector<std::thread> callers;
  for (int c = 0; c < kCallers; ++c) {
    callers.emplace_back([&, c] {
      CommandList commands;
      for (int i = 0; i < kLists; ++i) {
        commands.Clear();
        commands.Add(Kernel<CountArgs>(Count), CountArgs{&inside, &overlap, &sums[c]}, 1);
        pool.Run(commands.commands());
        ++lists[c];
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_FALSE(overlap.load());
  for (int c = 0; c < kCallers; ++c) {
    EXPECT_EQ(sums[c], kLists);
    EXPECT_EQ(lists[c], kLists);
  }
}

}  // namespace
}  // namespace sluice::cpu
