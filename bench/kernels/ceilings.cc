#include "bench/kernels/ceilings.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace sluice::bench {
namespace {

// Seconds. One thread alone is timed by its processor time, which leaves out what other programs
// take.
double Now(bool alone) {
  timespec now{};
  clock_gettime(alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The shortest of `repeats` runs of work(thread) on all threads at once, in seconds.
double Shortest(int threads, int repeats, const std::function<void(int)>& work) {
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    std::atomic<int> ready = 0;
    std::vector<double> begin(static_cast<size_t>(threads));
    std::vector<double> end(static_cast<size_t>(threads));
    const auto run = [&](int thread) {
      ready.fetch_add(1);
      while (ready.load() < threads) {
      }
      begin[static_cast<size_t>(thread)] = Now(threads == 1);
      work(thread);
      end[static_cast<size_t>(thread)] = Now(threads == 1);
    };
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(run, t);
    run(0);
    for (std::thread& t : others) t.join();
    best = std::min(best, *std::ranges::max_element(end) - *std::ranges::min_element(begin));
  }
  return best;
}

#if defined(__x86_64__)

constexpr int64_t kRounds = 2'000'000;

// Twelve chains of one instruction on registers of kind R hide its latency of 4 cycles on up to
// three ports. Written in assembly, because compilers keep a bench's registers in memory.
#define SLUICE_CHAIN(OP, R, N) OP " %%" R "0, %%" R "0, %%" R #N "\n"
#define SLUICE_PEAK(NAME, OP, R)                                                                 \
  void NAME() {                                                                                  \
    asm volatile("vpxor %%xmm0, %%xmm0, %%xmm0" ::: "xmm0");                                     \
    for (int64_t i = 0; i < kRounds; ++i) {                                                      \
      asm volatile(SLUICE_CHAIN(OP, R, 1) SLUICE_CHAIN(OP, R, 2) SLUICE_CHAIN(OP, R, 3)          \
                       SLUICE_CHAIN(OP, R, 4) SLUICE_CHAIN(OP, R, 5) SLUICE_CHAIN(OP, R, 6)      \
                           SLUICE_CHAIN(OP, R, 7) SLUICE_CHAIN(OP, R, 8) SLUICE_CHAIN(OP, R, 9)  \
                               SLUICE_CHAIN(OP, R, 10) SLUICE_CHAIN(OP, R, 11)                   \
                                   SLUICE_CHAIN(OP, R, 12)::                                     \
                                       : "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
                                         "xmm8", "xmm9", "xmm10", "xmm11", "xmm12");             \
    }                                                                                            \
    asm volatile("vzeroupper" :::);                                                              \
  }
SLUICE_PEAK(Dpbusd, "vpdpbusd", "zmm")
SLUICE_PEAK(Fma512, "vfmadd231ps", "zmm")
SLUICE_PEAK(Maddubs, "vpmaddubsw", "ymm")
SLUICE_PEAK(Fma256, "vfmadd231ps", "ymm")
#undef SLUICE_PEAK
#undef SLUICE_CHAIN

double Rate(int threads, double operations, void (*work)()) {
  return operations * 12 * kRounds * threads / Shortest(threads, 9, [work](int) { work(); });
}

#endif

}  // namespace

double ReadBandwidth(int threads) {
  constexpr int64_t kBytes = int64_t{192} << 20;
  std::vector<uint64_t> memory(kBytes / 8, 1);
  std::atomic<uint64_t> sink = 0;
  const double seconds = Shortest(threads, 15, [&](int thread) {
    const int64_t share = kBytes / 8 / threads / 8 * 8;
    const uint64_t* p = memory.data() + thread * share;
    uint64_t sums[8] = {};
    for (int64_t i = 0; i < share; i += 8) {
      for (int64_t j = 0; j < 8; ++j) sums[j] += p[i + j];
    }
    for (const uint64_t s : sums) sink.fetch_add(s);
  });
  return static_cast<double>(kBytes) / seconds;
}

double IntegerPeak(CpuIsa isa, int threads) {
#if defined(__x86_64__)
  if (isa == CpuIsa::kAvx512) return Rate(threads, 128, Dpbusd);
  if (isa == CpuIsa::kAvx2) return Rate(threads, 64, Maddubs);
#endif
  (void)isa, (void)threads;
  return 0;
}

double FloatPeak(CpuIsa isa, int threads) {
#if defined(__x86_64__)
  if (isa == CpuIsa::kAvx512) return Rate(threads, 32, Fma512);
  if (isa == CpuIsa::kAvx2) return Rate(threads, 16, Fma256);
#endif
  (void)isa, (void)threads;
  return 0;
}

}  // namespace sluice::bench
