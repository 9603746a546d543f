// Memory and copies of the emulated runtime: when bytes arrive, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/simt/runtime.h"
#include "tests/simt/runtime_fixture.h"

namespace sluice::simt {
namespace {

using testing::HasSubstr;

class RuntimeMemory : public RuntimeTest {};

TEST_F(RuntimeMemory, TheTargetOfACopyUnderWayIsSpoiled) {
  const cudaStream_t stream = NonBlocking();
  int* const x = OnDevice<int>(1);
  int* const host = Pinned<int>(1);
  *host = 5;
  EXPECT_WORKS(Run(stream, [x] { *x = 7; }));
  EXPECT_WORKS(cudaMemcpyAsync(host, x, sizeof(int), cudaMemcpyDeviceToHost, stream));
  EXPECT_EQ(static_cast<uint32_t>(*host), 0xDBDBDBDBU);
  EXPECT_WORKS(cudaStreamSynchronize(stream));
  EXPECT_EQ(*host, 7);
}

// A host function still has to read what an earlier copy brought: it must not be spoiled.
TEST_F(RuntimeMemory, ATargetThatEnqueuedWorkReadsIsLeftAlone) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Reset(seed);
    const cudaStream_t stream = NonBlocking();
    int* const x = OnDevice<int>(1);
    int* const host = Pinned<int>(2);
    EXPECT_WORKS(Run(stream, [x] { *x = 7; }));
    EXPECT_WORKS(cudaMemcpyAsync(host, x, sizeof(int), cudaMemcpyDeviceToHost, stream));
    EXPECT_WORKS(cudaLaunchHostFunc(
        stream, [](void* p) { static_cast<int*>(p)[1] = *static_cast<int*>(p); }, host));
    EXPECT_WORKS(cudaMemcpyAsync(host, x, sizeof(int), cudaMemcpyDeviceToHost, stream));
    EXPECT_WORKS(cudaStreamSynchronize(stream));
    EXPECT_EQ(host[1], 7) << "seed " << seed;
  }
}

bool OverwrittenSourceShows(int* source, int* x, cudaStream_t stream) {
  *source = 1;
  EXPECT_WORKS(cudaMemcpyAsync(x, source, sizeof(int), cudaMemcpyHostToDevice, stream));
  *source = 2;
  int seen = 0;
  EXPECT_WORKS(cudaMemcpyAsync(&seen, x, sizeof(int), cudaMemcpyDeviceToHost, stream));
  EXPECT_WORKS(cudaStreamSynchronize(stream));
  return seen == 2;
}

TEST_F(RuntimeMemory, AnOverwrittenSourceShowsForPinnedMemoryAndPerhapsForPageable) {
  EXPECT_GT(CountSeeds([] {
              return OverwrittenSourceShows(Pinned<int>(1), OnDevice<int>(1), NonBlocking());
            }),
            30);
  const int pageable = CountSeeds([] {
    int source = 0;
    return OverwrittenSourceShows(&source, OnDevice<int>(1), NonBlocking());
  });
  EXPECT_GT(pageable, 5);
  EXPECT_LT(pageable, 35);
  Reset(0);
  int source = 0;
  EXPECT_FALSE(OverwrittenSourceShows(&source, OnDevice<int>(1), NonBlocking()));
}

TEST_F(RuntimeMemory, ASynchronousCopyHasReadItsSourceAndBroughtWhatItBrings) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Reset(seed);
    int* const x = OnDevice<int>(1);
    for (int* source : {Pinned<int>(1), new int}) {
      const bool pageable = seed % 2 == 1;
      *source = 3;
      EXPECT_WORKS(cudaMemcpy(x, source, sizeof(int), cudaMemcpyHostToDevice));
      *source = 4;
      int seen = 0;
      EXPECT_WORKS(cudaMemcpy(&seen, x, sizeof(int), cudaMemcpyDeviceToHost));
      EXPECT_EQ(seen, 3) << "seed " << seed << pageable;
      cudaPointerAttributes attributes;
      EXPECT_WORKS(cudaPointerGetAttributes(&attributes, source));
      if (attributes.type == cudaMemoryTypeUnregistered) delete source;
    }
  }
}

// cudaMemcpy from pageable memory returns once its source is read; only the default stream, and
// those that wait for it, know that the data is not there yet.
TEST_F(RuntimeMemory, ANonBlockingStreamMayMissACopyOfPageableMemory) {
  const auto missed = [](unsigned flags) {
    return CountSeeds([flags] {
      cudaStream_t stream = nullptr;
      EXPECT_WORKS(cudaStreamCreateWithFlags(&stream, flags));
      int* const x = OnDevice<int>(1);
      const int source = 6;
      EXPECT_WORKS(cudaMemcpy(x, &source, sizeof(int), cudaMemcpyHostToDevice));
      return Read(x, stream) != 6;
    });
  };
  EXPECT_GT(missed(cudaStreamNonBlocking), 5);
  EXPECT_EQ(missed(cudaStreamDefault), 0);
}

TEST_F(RuntimeMemory, NewMemoryHoldsAPatternHoweverLarge) {
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{40} << 20}) {
    const auto* const x = OnDevice<uint8_t>(bytes);
    std::vector<uint8_t> seen(bytes);
    EXPECT_WORKS(cudaMemcpy(seen.data(), x, bytes, cudaMemcpyDeviceToHost));
    EXPECT_EQ(std::ranges::count(seen, 0xCD), static_cast<ptrdiff_t>(bytes));
  }
}

TEST_F(RuntimeMemory, LargeMemoryIsWrittenAndReadBack) {
  constexpr size_t kBytes = size_t{48} << 20, kAt = (size_t{32} << 20) - 2;
  auto* const x = OnDevice<uint8_t>(kBytes);
  EXPECT_WORKS(cudaMemset(x + kAt, 9, 4));
  uint8_t seen[6];
  EXPECT_WORKS(cudaMemcpy(seen, x + kAt - 1, 6, cudaMemcpyDeviceToHost));
  EXPECT_THAT(seen, testing::ElementsAre(0xCD, 9, 9, 9, 9, 0xCD));
}

TEST_F(RuntimeMemory, TheDevicesMemoryIsLimited) {
  Reset(0, {{.memory_bytes = 1 << 20}});
  void* p[3] = {};
  EXPECT_WORKS(cudaMalloc(&p[0], (1 << 20) - 512));
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&p[1], 513));
  EXPECT_THAT(LastRefusal(), HasSubstr("513 bytes; 512 of 1048576 are left"));
  EXPECT_EQ(p[1], nullptr);
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&p[1], SIZE_MAX));
  EXPECT_WORKS(cudaMalloc(&p[1], 1));
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaMallocAsync(&p[2], 1, nullptr));
  size_t free = 1, total = 0;
  EXPECT_WORKS(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(free, 0U);
  EXPECT_EQ(total, size_t{1} << 20);
  EXPECT_WORKS(cudaFree(p[0]));
  EXPECT_WORKS(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(free, (size_t{1} << 20) - 512);
  EXPECT_WORKS(cudaFree(nullptr));
  EXPECT_WORKS(cudaMalloc(&p[0], 0));
  EXPECT_EQ(p[0], nullptr);
}

// 80 GB of a card cost the host what is written to.
TEST_F(RuntimeMemory, ACardLargerThanTheHostIsNoTrouble) {
  Reset(0, {{.memory_bytes = size_t{80} << 30}});
  void* p = nullptr;
  EXPECT_WORKS(cudaMalloc(&p, size_t{79} << 30));
  auto* const last = static_cast<uint8_t*>(p) + (size_t{79} << 30) - 1;
  EXPECT_WORKS(cudaMemset(last, 1, 1));
  EXPECT_EQ(Read(last, nullptr), 1);
  EXPECT_WORKS(cudaFree(p));
}

TEST_F(RuntimeMemory, FreeingWaitsForTheWorkThatUsesIt) {
  auto* const x = OnDevice<int>(1);
  const cudaStream_t stream = NonBlocking();
  bool ran = false;
  EXPECT_WORKS(Run(stream, [&ran, x] {
    *x = 1;
    ran = true;
  }));
  EXPECT_WORKS(cudaFree(x));
  EXPECT_TRUE(ran);
  EXPECT_CUDA(cudaErrorInvalidValue, cudaFree(x));
  EXPECT_THAT(LastRefusal(), HasSubstr("no device allocation begins there"));
}

TEST_F(RuntimeMemory, AStreamOrderedFreeHappensInItsTurn) {
  const cudaStream_t stream = NonBlocking();
  void* p = nullptr;
  EXPECT_WORKS(cudaMallocAsync(&p, 4, stream));
  auto* const x = static_cast<int*>(p);
  EXPECT_WORKS(cudaMemsetAsync(x, 0, 4, stream));
  EXPECT_WORKS(cudaFreeAsync(x, stream));
  size_t free = 0, total = 0;
  EXPECT_WORKS(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(total - free, 512U);
  EXPECT_WORKS(cudaStreamSynchronize(stream));
  EXPECT_WORKS(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(total, free);
}

TEST_F(RuntimeMemory, RowsWithPitchesAreCopied) {
  const uint8_t source[3][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 11, 12}};
  auto* const x = OnDevice<uint8_t>(3 * 2);
  EXPECT_WORKS(cudaMemcpy2DAsync(x, 2, &source[0][1], 4, 2, 3, cudaMemcpyHostToDevice, nullptr));
  uint8_t seen[6];
  EXPECT_WORKS(cudaMemcpy(seen, x, 6, cudaMemcpyDeviceToHost));
  EXPECT_THAT(seen, testing::ElementsAre(2, 3, 6, 7, 10, 11));
  EXPECT_CUDA(cudaErrorInvalidValue,
              cudaMemcpy2DAsync(x, 2, source, 4, 3, 2, cudaMemcpyHostToDevice, nullptr));
}

TEST_F(RuntimeMemory, RegisteredMemoryIsPinnedUntilItIsNot) {
  std::vector<int> memory(100);
  const auto type = [&](const void* p) {
    cudaPointerAttributes attributes;
    EXPECT_WORKS(cudaPointerGetAttributes(&attributes, p));
    return attributes.type;
  };
  EXPECT_EQ(type(memory.data()), cudaMemoryTypeUnregistered);
  EXPECT_WORKS(cudaHostRegister(memory.data(), 400, cudaHostRegisterDefault));
  EXPECT_CUDA(cudaErrorHostMemoryAlreadyRegistered, cudaHostRegister(&memory[3], 4, 0));
  EXPECT_EQ(type(&memory[99]), cudaMemoryTypeHost);
  EXPECT_WORKS(cudaHostUnregister(memory.data()));
  EXPECT_CUDA(cudaErrorHostMemoryNotRegistered, cudaHostUnregister(memory.data()));
  EXPECT_EQ(type(OnDevice<int>(1)), cudaMemoryTypeDevice);
  EXPECT_EQ(type(Pinned<int>(1)), cudaMemoryTypeHost);
}

TEST_F(RuntimeMemory, CopiesThatNoCardMakesAreRefused) {
  Reset(0, {DeviceModel{}, DeviceModel{}});
  char host[128] = {};
  char* const x = OnDevice<char>(64);
  char* const pinned = Pinned<char>(64);
  EXPECT_WORKS(cudaSetDevice(1));
  char* const other = OnDevice<char>(64);
  EXPECT_WORKS(cudaSetDevice(0));
  const struct {
    const char* why;
    void* to;
    const void* from;
    size_t bytes;
    cudaMemcpyKind kind;
  } cases[] = {
      {"65 bytes at offset 0 of an allocation of 64", x, host, 65, cudaMemcpyHostToDevice},
      {"64 bytes at offset 1 of an allocation of 64", host, x + 1, 64, cudaMemcpyDeviceToHost},
      {"1 bytes at offset 64 of an allocation of 64", x + 64, host, 1, cudaMemcpyHostToDevice},
      {"65 bytes at offset 0 of an allocation of 64", x, pinned, 65, cudaMemcpyHostToDevice},
      {"from host to device memory", x, host, 4, cudaMemcpyDeviceToDevice},
      {"from device to host memory", host, x, 4, cudaMemcpyHostToDevice},
      {"from device to device memory", x, x + 32, 4, cudaMemcpyHostToDevice},
      {"null pointer", x, nullptr, 4, cudaMemcpyDefault},
      {"memory of device 1 in a copy on a stream of device 0", x, other, 4, cudaMemcpyDefault},
  };
  for (const auto& c : cases) {
    EXPECT_CUDA(cudaErrorInvalidValue, cudaMemcpyAsync(c.to, c.from, c.bytes, c.kind, nullptr));
    EXPECT_THAT(LastRefusal(), HasSubstr(c.why));
  }
  EXPECT_WORKS(cudaMemcpyAsync(x, host, 64, cudaMemcpyDefault, nullptr));
  EXPECT_WORKS(cudaMemcpyAsync(x, pinned, 0, cudaMemcpyHostToDevice, nullptr));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaMemset(host, 0, 4));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaMemset(x, 0, 65));
  EXPECT_CUDA(cudaErrorInvalidValue, cudaMemset(other, 0, 4));
  EXPECT_WORKS(cudaDeviceSynchronize());
}

using RuntimeMemoryDeathTest = RuntimeMemory;

TEST_F(RuntimeMemoryDeathTest, GuardsEndTheProcessAtTheAccess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto* const x = OnDevice<uint8_t>(4096);
  auto* const freed = OnDevice<uint8_t>(4096);
  EXPECT_WORKS(cudaFree(freed));
  const auto run = [](auto kernel) {
    EXPECT_WORKS(Run(nullptr, kernel, "wild"));
    (void)cudaDeviceSynchronize();
  };
  EXPECT_DEATH(run([x] { x[4096] = 1; }),
               "kernel wild.*byte 4096 of an allocation of 4096|AddressSanitizer");
  EXPECT_DEATH(run([x] { x[-1] = 1; }), "byte -1 of an allocation|AddressSanitizer");
  EXPECT_DEATH(run([freed] { freed[5] = 1; }), "kernel wild|AddressSanitizer");
  EXPECT_DEATH(x[0] = 1, "");  // the host
}

// A rank that is given another's pointer.
TEST_F(RuntimeMemoryDeathTest, AKernelSeesNoOtherDevicesMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Reset(0, {DeviceModel{}, DeviceModel{}});
  auto* const first = OnDevice<int>(1);
  auto* const pinned = Pinned<int>(1);
  EXPECT_WORKS(cudaSetDevice(1));
  auto* const second = OnDevice<int>(1);
  const auto run = [](auto kernel) {
    EXPECT_WORKS(Run(nullptr, kernel, "stray"));
    EXPECT_WORKS(cudaDeviceSynchronize());
  };
  run([second, pinned] { *second = *pinned = 1; });
  EXPECT_EQ(Read(second, nullptr), 1);
  EXPECT_DEATH(run([first] { *first = 1; }), "kernel stray.*on device 0|AddressSanitizer");
}

TEST_F(RuntimeMemory, AWriteIntoPaddingIsAFindingOfItsKernel) {
  for (const ptrdiff_t at : {-1, 100, 255}) {
    Reset(0);
    auto* const x = OnDevice<uint8_t>(100);
    EXPECT_WORKS(Run(nullptr, [x, at] { x[at] = 1; }, "wild"));
    EXPECT_CUDA(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    const std::vector<Finding> findings = TakeFindings();
    ASSERT_EQ(findings.size(), 1U);
    EXPECT_EQ(findings[0].kernel, "wild");
    EXPECT_THAT(findings[0].message, HasSubstr("allocation of 100 bytes"));
  }
}

TEST_F(RuntimeMemory, HostCodeMayTouchDeviceMemoryIfItIsLetTo) {
  HideFromHost(false);
  auto* const x = OnDevice<int>(1);
  *x = 3;
  EXPECT_EQ(Read(x, nullptr), 3);
  EXPECT_EQ(*x, 3);
  HideFromHost(true);
}

}  // namespace
}  // namespace sluice::simt
