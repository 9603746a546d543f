// What kernels are written in: each function is one instruction, or a few, under nvcc, and its
// meaning in the emulator (kernels/simt). Kernels use nothing else of CUDA's, so that the source
// that a card runs is the one that the tests run.
//
// All lanes of a mask must come to the same call. Source of the meanings: the PTX ISA, chapters
// "Parallel Synchronization and Communication" and "Data Movement".
#pragma once

#include <cstdint>

#if defined(__CUDACC__)

#define SLUICE_DEVICE __device__ __forceinline__
// SLUICE_KERNEL(threads of a block[, blocks that a multiprocessor should hold])
#define SLUICE_KERNEL(...) static __global__ __launch_bounds__(__VA_ARGS__) void
#define SLUICE_UNROLL _Pragma("unroll")
#define SLUICE_ROLLED _Pragma("unroll 1")  // a loop that is to save registers
// A variable of the block: SLUICE_SHARED(float, partial, [32]).
#define SLUICE_SHARED(type, name, extent) __shared__ __align__(16) type name extent
// The block's memory of the size that its launch names, as bytes aligned to 16.
#define SLUICE_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

namespace sluice::cuda {

inline constexpr uint32_t kFullMask = 0xffffffffU;

struct Index3 {
  uint32_t x, y, z;
};
SLUICE_DEVICE Index3 ThreadIndex() { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
// Its x, read anew: nothing that is computed from it is kept in registers from before.
SLUICE_DEVICE uint32_t ThreadAnew() {
  uint32_t x;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(x));
  return x;
}
SLUICE_DEVICE Index3 BlockIndex() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
SLUICE_DEVICE Index3 BlockSize() { return {blockDim.x, blockDim.y, blockDim.z}; }
SLUICE_DEVICE Index3 GridSize() { return {gridDim.x, gridDim.y, gridDim.z}; }

SLUICE_DEVICE void SyncBlock() { __syncthreads(); }
template <uint32_t kId, uint32_t kCount>
SLUICE_DEVICE void SyncSome() {
  asm volatile("barrier.sync %0, %1;" ::"n"(kId), "n"(kCount) : "memory");
}
SLUICE_DEVICE void SyncWarp(uint32_t mask = kFullMask) { __syncwarp(mask); }
template <class T>
SLUICE_DEVICE T Shuffle(T value, uint32_t lane, uint32_t mask = kFullMask) {
  return __shfl_sync(mask, value, static_cast<int>(lane));
}
template <class T>
SLUICE_DEVICE T ShuffleXor(T value, uint32_t bits, uint32_t mask = kFullMask) {
  return __shfl_xor_sync(mask, value, static_cast<int>(bits));
}
SLUICE_DEVICE uint32_t Ballot(bool vote, uint32_t mask = kFullMask) {
  return __ballot_sync(mask, vote);
}
SLUICE_DEVICE float Larger(float a, float b) { return fmaxf(a, b); }

struct alignas(8) Words2 {
  uint32_t word[2];
};
struct alignas(16) Words4 {
  uint32_t word[4];
};
// One access of 8 or 16 aligned bytes.
SLUICE_DEVICE Words2 LoadWords2(const void* from) {
  const uint2 v = *static_cast<const uint2*>(from);
  return {{v.x, v.y}};
}
SLUICE_DEVICE Words4 LoadWords4(const void* from) {
  const uint4 v = *static_cast<const uint4*>(from);
  return {{v.x, v.y, v.z, v.w}};
}
SLUICE_DEVICE void StoreWords4(void* to, const Words4& words) {
  *static_cast<uint4*>(to) = make_uint4(words.word[0], words.word[1], words.word[2], words.word[3]);
}
// From global memory that nobody writes during the launch and that is read once: past the L1 cache.
SLUICE_DEVICE Words4 LoadOnce16(const void* from) {
  Words4 v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
      : "l"(from));
  return v;
}
SLUICE_DEVICE uint32_t LoadOnce4(const void* from) {
  uint32_t v;
  asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(from));
  return v;
}
SLUICE_DEVICE Words2 LoadOnce8(const void* from) {
  Words2 v;
  asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
      : "=r"(v.word[0]), "=r"(v.word[1])
      : "l"(from));
  return v;
}

// Each is one step that no other thread sees the middle of; it returns what was there before.
SLUICE_DEVICE uint32_t AtomicAdd(uint32_t* to, uint32_t value) { return atomicAdd(to, value); }
SLUICE_DEVICE uint64_t AtomicAdd(uint64_t* to, uint64_t value) {
  return atomicAdd(reinterpret_cast<unsigned long long*>(to), value);
}
SLUICE_DEVICE uint32_t AtomicOr(uint32_t* to, uint32_t bits) { return atomicOr(to, bits); }
// What the calling thread wrote before is seen by whoever sees what it writes after.
SLUICE_DEVICE void Fence() { __threadfence(); }

// 16 bytes from global to shared memory, zeros if not `filled`, past the registers. They are there
// after a wait and a barrier.
SLUICE_DEVICE void CopyAsync16(void* shared, const void* global, bool filled = true) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const uint32_t bytes = filled ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
}
SLUICE_DEVICE void EndCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most kGroups of the thread's last groups of copies are under way.
template <uint32_t kGroups>
SLUICE_DEVICE void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// Over groups of kLanes neighbouring lanes, each lane getting the result. A butterfly: every lane
// adds in the same order, so all get the same bits.
template <int kLanes>
SLUICE_DEVICE float GroupSum(float value) {
  SLUICE_UNROLL
  for (int bits = kLanes / 2; bits > 0; bits /= 2) value += ShuffleXor(value, bits);
  return value;
}
template <int kLanes>
SLUICE_DEVICE float GroupMax(float value) {
  SLUICE_UNROLL
  for (int bits = kLanes / 2; bits > 0; bits /= 2) value = Larger(value, ShuffleXor(value, bits));
  return value;
}

}  // namespace sluice::cuda

#else

#include <cmath>
#include <type_traits>

#include "kernels/simt/grid.h"

#define SLUICE_DEVICE inline
#define SLUICE_KERNEL(...) static void
#define SLUICE_UNROLL
#define SLUICE_ROLLED
#define SLUICE_SHARED(type, name, extent)                                                       \
  using name##_type = std::remove_reference_t<decltype(*static_cast<type(*) extent>(nullptr))>; \
  static constexpr char name##_key = 0;                                                         \
  auto& name = *static_cast<name##_type*>(::sluice::simt::SharedMemory(                         \
      &name##_key, sizeof(name##_type), alignof(name##_type), {__FILE__, __LINE__}))
#define SLUICE_DYNAMIC_SHARED(name) \
  auto* name = static_cast<unsigned char*>(::sluice::simt::DynamicSharedMemory())

namespace sluice::cuda {

inline constexpr uint32_t kFullMask = 0xffffffffU;

using Index3 = simt::Dim3;
inline Index3 ThreadIndex() { return simt::Place().thread; }
inline uint32_t ThreadAnew() { return simt::Place().thread.x; }
inline Index3 BlockIndex() { return simt::Place().block; }
inline Index3 BlockSize() { return simt::Place().block_size; }
inline Index3 GridSize() { return simt::Place().grid_size; }

inline void SyncBlock(const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
  simt::Barrier(0, 0, {file, line});
}
template <uint32_t kId, uint32_t kCount>
inline void SyncSome(const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
  simt::Barrier(kId, kCount, {file, line});
}
inline void SyncWarp(uint32_t mask = kFullMask, const char* file = __builtin_FILE(),
                     uint32_t line = __builtin_LINE()) {
  simt::WarpBarrier(mask, {file, line});
}

// A lane's part in an exchange: what it gives, whom it reads, what it gets.
template <class T>
struct Exchange {
  T value;
  uint32_t from;
  T result;
};

template <class T>
inline T Shuffle(T value, uint32_t lane, uint32_t mask = kFullMask,
                 const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
  Exchange<T> mine{value, lane % simt::kWarpThreads, value};
  // A lane that is not in the mask has no value to give; hardware leaves the result undefined, here
  // it is the largest number there is, or NaN.
  const auto exchange = [](void** lanes, uint32_t in) {
    for (uint32_t i = 0; i < simt::kWarpThreads; ++i) {
      if ((in >> i & 1) == 0) continue;
      auto* to = static_cast<Exchange<T>*>(lanes[i]);
      if ((in >> to->from & 1) != 0) {
        to->result = static_cast<Exchange<T>*>(lanes[to->from])->value;
      } else {
        __builtin_memset(&to->result, 0xff, sizeof(T));
      }
    }
  };
  simt::Together(mask, &mine, exchange, {file, line});
  return mine.result;
}

template <class T>
inline T ShuffleXor(T value, uint32_t bits, uint32_t mask = kFullMask,
                    const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
  return Shuffle(value, simt::Place().lane ^ bits, mask, file, line);
}

inline uint32_t Ballot(bool vote, uint32_t mask = kFullMask, const char* file = __builtin_FILE(),
                       uint32_t line = __builtin_LINE()) {
  Exchange<uint32_t> mine{vote ? 1U : 0U, 0, 0};
  const auto count = [](void** lanes, uint32_t in) {
    uint32_t votes = 0;
    for (uint32_t i = 0; i < simt::kWarpThreads; ++i) {
      if ((in >> i & 1) != 0) votes |= static_cast<Exchange<uint32_t>*>(lanes[i])->value << i;
    }
    for (uint32_t i = 0; i < simt::kWarpThreads; ++i) {
      if ((in >> i & 1) != 0) static_cast<Exchange<uint32_t>*>(lanes[i])->result = votes;
    }
  };
  simt::Together(mask, &mine, count, {file, line});
  return mine.result;
}
inline float Larger(float a, float b) {
  if (a == b) return std::signbit(a) ? b : a;  // +0 is larger than -0
  return std::fmax(a, b);
}

struct alignas(8) Words2 {
  uint32_t word[2];
};
struct alignas(16) Words4 {
  uint32_t word[4];
};
template <class Words>
inline Words LoadWords(const void* from, simt::Site site) {
  Words words;
  simt::LoadAtOnce(&words, from, sizeof words, site);
  return words;
}
inline Words2 LoadWords2(const void* from, const char* file = __builtin_FILE(),
                         uint32_t line = __builtin_LINE()) {
  return LoadWords<Words2>(from, {file, line});
}
inline Words4 LoadWords4(const void* from, const char* file = __builtin_FILE(),
                         uint32_t line = __builtin_LINE()) {
  return LoadWords<Words4>(from, {file, line});
}
inline void StoreWords4(void* to, const Words4& words, const char* file = __builtin_FILE(),
                        uint32_t line = __builtin_LINE()) {
  simt::StoreAtOnce(to, &words, sizeof words, {file, line});
}
inline Words4 LoadOnce16(const void* from, const char* file = __builtin_FILE(),
                         uint32_t line = __builtin_LINE()) {
  return LoadWords<Words4>(from, {file, line});
}
inline uint32_t LoadOnce4(const void* from, const char* file = __builtin_FILE(),
                          uint32_t line = __builtin_LINE()) {
  return LoadWords<uint32_t>(from, {file, line});
}
inline Words2 LoadOnce8(const void* from, const char* file = __builtin_FILE(),
                        uint32_t line = __builtin_LINE()) {
  return LoadWords<Words2>(from, {file, line});
}

inline uint32_t AtomicOr(uint32_t* to, uint32_t bits) {
  return __atomic_fetch_or(to, bits, __ATOMIC_RELAXED);
}
inline uint32_t AtomicAdd(uint32_t* to, uint32_t value) {
  return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}
inline uint64_t AtomicAdd(uint64_t* to, uint64_t value) {
  return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}
inline void Fence() { simt::Fence(); }

inline void CopyAsync16(void* shared, const void* global, bool filled = true,
                        const char* file = __builtin_FILE(), uint32_t line = __builtin_LINE()) {
  simt::CopyAsync(shared, global, filled, {file, line});
}
inline void EndCopies() { simt::EndCopyGroup(); }
template <uint32_t kGroups>
inline void WaitForCopies() {
  simt::WaitForCopies(kGroups);
}

// The butterfly of the nvcc form in one meeting of the lanes rather than five.
template <int kLanes, class Join>
inline float GroupReduce(float value, Join, simt::Site site) {
  const auto reduce = [](void** lanes, uint32_t) {
    constexpr uint32_t kThreads = simt::kWarpThreads;
    float now[kThreads], next[kThreads];
    for (uint32_t i = 0; i < kThreads; ++i) now[i] = *static_cast<float*>(lanes[i]);
    for (uint32_t bits = kLanes / 2; bits > 0; bits /= 2) {
      for (uint32_t i = 0; i < kThreads; ++i) next[i] = Join()(now[i], now[i ^ bits]);
      for (uint32_t i = 0; i < kThreads; ++i) now[i] = next[i];
    }
    for (uint32_t i = 0; i < kThreads; ++i) *static_cast<float*>(lanes[i]) = now[i];
  };
  simt::Together(kFullMask, &value, reduce, site);
  return value;
}
template <int kLanes>
inline float GroupSum(float value, const char* file = __builtin_FILE(),
                      uint32_t line = __builtin_LINE()) {
  return GroupReduce<kLanes>(value, [](float a, float b) { return a + b; }, {file, line});
}
template <int kLanes>
inline float GroupMax(float value, const char* file = __builtin_FILE(),
                      uint32_t line = __builtin_LINE()) {
  return GroupReduce<kLanes>(value, [](float a, float b) { return Larger(a, b); }, {file, line});
}

}  // namespace sluice::cuda

#endif
