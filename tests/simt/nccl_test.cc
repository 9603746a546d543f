// Collectives: the host code on the emulated NCCL over several emulated devices, and the
// declarations against the real header.
#include "kernels/simt/nccl.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cuda/collectives.h"
#include "kernels/simt/runtime.h"
#include "tests/simt/runtime_fixture.h"

#if __has_include(<nccl.h>)
#include <nccl.h>
#endif

namespace sluice::cuda {
namespace {

using simt::LastRefusal;
using simt::SetStallTimeout;
using testing::ElementsAre;
using testing::HasSubstr;

// Four ranks, each with a stream and memory on its device, driven by one thread.
class CollectivesTest : public simt::RuntimeTest {
 protected:
  static constexpr int kRanks = 4;
  static constexpr size_t kCount = 3;

  void SetUp() override { Start(0); }
  void TearDown() override {
    ranks_.clear();
    RuntimeTest::TearDown();
  }
  void Start(uint64_t seed) {
    ranks_.clear();
    Reset(seed, std::vector<simt::DeviceModel>(kRanks));
    auto library = Collectives::Open(simt::FindNcclFunction);
    ASSERT_TRUE(library.ok()) << library.status();
    library_ = *std::move(library);
    auto ranks = library_->InitAll({0, 1, 2, 3});
    ASSERT_TRUE(ranks.ok()) << ranks.status();
    ranks_ = *std::move(ranks);
    for (int r = 0; r < kRanks; ++r) {
      EXPECT_WORKS(cudaSetDevice(r));
      streams_[r] = NonBlocking();
      x_[r] = OnDevice<float>(kCount * kRanks);
      all_[r] = OnDevice<float>(kCount * kRanks);
    }
  }
  // Rank r computes {r + 1, 10 (r + 1), 100 (r + 1)}.
  void Fill(int r) {
    EXPECT_WORKS(cudaSetDevice(r));
    EXPECT_WORKS(Run(streams_[r], [x = x_[r], r] {
      for (size_t i = 0, unit = 1; i < kCount; ++i, unit *= 10) {
        x[i] = static_cast<float>(unit * static_cast<size_t>(r + 1));
      }
    }));
  }
  absl::Status Sum(int r) {
    return ranks_[r].AllReduceSum(x_[r], x_[r], kCount, CollectiveType::kF32, streams_[r]);
  }
  absl::Status SumOfAll() {
    return library_->Group([&] {
      for (int r = 0; r < kRanks; ++r) EXPECT_TRUE(Sum(r).ok());
      return absl::OkStatus();
    });
  }
  template <size_t kNumbers>
  std::vector<float> ReadBack(int r, const float* x) {
    std::vector<float> host(kNumbers);
    EXPECT_WORKS(cudaMemcpyAsync(host.data(), x, kNumbers * sizeof(float), cudaMemcpyDeviceToHost,
                                 streams_[r]));
    EXPECT_WORKS(cudaStreamSynchronize(streams_[r]));
    return host;
  }

  std::unique_ptr<Collectives> library_;
  std::vector<Communicator> ranks_;
  cudaStream_t streams_[kRanks];
  float *x_[kRanks], *all_[kRanks];
};

TEST_F(CollectivesTest, ASumIsEveryRanksUnderEverySeed) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Start(seed);
    for (int r = 0; r < kRanks; ++r) Fill(r);
    ASSERT_TRUE(SumOfAll().ok());
    for (int r = 0; r < kRanks; ++r) {
      EXPECT_THAT(ReadBack<kCount>(r, x_[r]), ElementsAre(10, 100, 1000)) << "rank " << r;
    }
  }
}

TEST_F(CollectivesTest, AGatherOrdersByRank) {
  for (int r = 0; r < kRanks; ++r) Fill(r);
  ASSERT_TRUE(library_
                  ->Group([&] {
                    for (int r = 0; r < kRanks; ++r) {
                      EXPECT_TRUE(
                          ranks_[r]
                              .AllGather(x_[r], all_[r], kCount, CollectiveType::kF32, streams_[r])
                              .ok());
                    }
                    return absl::OkStatus();
                  })
                  .ok());
  for (int r = 0; r < kRanks; ++r) {
    EXPECT_THAT(ReadBack<kCount * kRanks>(r, all_[r]),
                ElementsAre(1, 10, 100, 2, 20, 200, 3, 30, 300, 4, 40, 400));
  }
}

TEST_F(CollectivesTest, HalvesAreRoundedOnceAfterTheSum) {
  const struct {
    CollectiveType type;
    uint16_t one, tiny, sum;  // sum: of 1 and three times tiny
  } cases[] = {
      {CollectiveType::kF16, 0x3c00, 0x1000, 0x3c02},   // 1 + 3 * 2^-11
      {CollectiveType::kBf16, 0x3f80, 0x3b80, 0x3f82},  // 1 + 3 * 2^-8
  };
  for (const auto& c : cases) {
    for (int r = 0; r < kRanks; ++r) {
      EXPECT_WORKS(cudaSetDevice(r));
      EXPECT_WORKS(Run(streams_[r], [x = x_[r], value = r == 0 ? c.one : c.tiny] {
        *reinterpret_cast<uint16_t*>(x) = value;
      }));
    }
    ASSERT_TRUE(library_
                    ->Group([&] {
                      for (int r = 0; r < kRanks; ++r) {
                        EXPECT_TRUE(
                            ranks_[r].AllReduceSum(x_[r], x_[r], 1, c.type, streams_[r]).ok());
                      }
                      return absl::OkStatus();
                    })
                    .ok());
    uint16_t bits = 0;
    EXPECT_WORKS(cudaMemcpyAsync(&bits, x_[3], 2, cudaMemcpyDeviceToHost, streams_[3]));
    EXPECT_WORKS(cudaStreamSynchronize(streams_[3]));
    EXPECT_EQ(bits, c.sum);
  }
}

// What every rank's work before it wrote is seen, and nobody's work after it is.
TEST_F(CollectivesTest, ManyCollectivesInARowStayApart) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Start(seed);
    for (int r = 0; r < kRanks; ++r) Fill(r);
    for (int round = 0; round < 5; ++round) ASSERT_TRUE(SumOfAll().ok());
    EXPECT_THAT(ReadBack<kCount>(2, x_[2]), ElementsAre(2560, 25600, 256000));
    EXPECT_THAT(ReadBack<kCount>(0, x_[0]), ElementsAre(2560, 25600, 256000));
  }
}

TEST_F(CollectivesTest, ACollectiveWaitsForTheLastRank) {
  SetStallTimeout(absl::Milliseconds(1));
  for (int r = 0; r < kRanks; ++r) Fill(r);
  ASSERT_TRUE(library_->Group([&] { return Sum(0); }).ok());
  EXPECT_CUDA(cudaErrorLaunchTimeout, cudaStreamSynchronize(streams_[0]));
  for (int r = 1; r < kRanks; ++r) {
    EXPECT_CUDA(cudaErrorLaunchTimeout, cudaStreamSynchronize(streams_[0]));
    ASSERT_TRUE(library_->Group([&] { return Sum(r); }).ok());
  }
  EXPECT_THAT(ReadBack<kCount>(0, x_[0]), ElementsAre(10, 100, 1000));
}

TEST_F(CollectivesTest, AbortedRanksWaitForNobody) {
  for (int r = 0; r < kRanks; ++r) Fill(r);
  ASSERT_TRUE(library_->Group([&] { return Sum(0); }).ok());
  std::thread aborts([&] {
    ranks_[0].Abort();
    ranks_[1].Abort();
  });
  EXPECT_WORKS(cudaSetDevice(0));
  EXPECT_WORKS(cudaStreamSynchronize(streams_[0]));
  aborts.join();
  EXPECT_THAT(ReadBack<kCount>(0, x_[0]), ElementsAre(1, 10, 100));
}

TEST_F(CollectivesTest, GraphsReplayThem) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Start(seed);
    cudaGraphExec_t programs[kRanks];
    for (int r = 0; r < kRanks; ++r) {
      Fill(r);
      EXPECT_WORKS(cudaStreamBeginCapture(streams_[r], cudaStreamCaptureModeThreadLocal));
    }
    ASSERT_TRUE(SumOfAll().ok());
    ASSERT_TRUE(SumOfAll().ok());
    for (int r = 0; r < kRanks; ++r) {
      cudaGraph_t graph = nullptr;
      EXPECT_WORKS(cudaStreamEndCapture(streams_[r], &graph));
      EXPECT_WORKS(cudaGraphInstantiate(&programs[r], graph, 0));
    }
    for (int launch = 0; launch < 2; ++launch) {
      for (int r = 0; r < kRanks; ++r) {
        EXPECT_WORKS(cudaSetDevice(r));
        EXPECT_WORKS(cudaGraphLaunch(programs[r], streams_[r]));
      }
    }
    EXPECT_THAT(ReadBack<kCount>(1, x_[1]), ElementsAre(640, 6400, 64000)) << "seed " << seed;
  }
}

TEST_F(CollectivesTest, ThreadsMayEachDriveARank) {
  const auto id = library_->MakeId();
  ASSERT_TRUE(id.ok());
  for (int r = 0; r < kRanks; ++r) Fill(r);
  std::vector<std::thread> threads;
  threads.reserve(kRanks);
  for (int r = 0; r < kRanks; ++r) {
    threads.emplace_back([&, r] {
      EXPECT_WORKS(cudaSetDevice(r));
      const auto rank = library_->InitRank(*id, kRanks, r);
      ASSERT_TRUE(rank.ok()) << rank.status();
      for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(
            rank->AllReduceSum(x_[r], x_[r], kCount, CollectiveType::kF32, streams_[r]).ok());
      }
      EXPECT_THAT(ReadBack<kCount>(r, x_[r]), ElementsAre(160, 1600, 16000));
      EXPECT_TRUE(rank->Check().ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(CollectivesTest, OneThreadMayJoinForAllWithinAGroup) {
  const auto id = library_->MakeId();
  ASSERT_TRUE(id.ok());
  std::vector<Communicator> joined;
  EXPECT_TRUE(library_
                  ->Group([&] {
                    for (int r = 0; r < 2; ++r) {
                      EXPECT_WORKS(cudaSetDevice(r));
                      auto rank = library_->InitRank(*id, 2, r);
                      EXPECT_TRUE(rank.ok());
                      joined.push_back(*std::move(rank));
                    }
                    return absl::OkStatus();
                  })
                  .ok());
  SetStallTimeout(absl::Milliseconds(1));
  const auto lonely = library_->MakeId();
  EXPECT_THAT(library_->InitRank(*lonely, 2, 0).status().message(),
              HasSubstr("a peer did not come"));
}

TEST_F(CollectivesTest, OneThreadOutsideAGroupIsRefused) {
  EXPECT_TRUE(Sum(0).ok());
  EXPECT_THAT(Sum(1).message(), HasSubstr("a sum of NCCL failed: invalid usage"));
}

TEST_F(CollectivesTest, RanksThatDisagreeFailTheirDevices) {
  for (int r = 0; r < kRanks; ++r) Fill(r);
  ASSERT_TRUE(library_
                  ->Group([&] {
                    for (int r = 0; r < kRanks; ++r) {
                      EXPECT_TRUE(ranks_[r]
                                      .AllReduceSum(x_[r], x_[r], r == 2 ? 2 : 3,
                                                    CollectiveType::kF32, streams_[r])
                                      .ok());
                    }
                    return absl::OkStatus();
                  })
                  .ok());
  for (int r = 0; r < kRanks; ++r) {
    EXPECT_WORKS(cudaSetDevice(r));
    EXPECT_CUDA(cudaErrorLaunchFailure, cudaStreamSynchronize(streams_[r]));
    EXPECT_THAT(LastRefusal(),
                HasSubstr("rank 2 has 2 elements of type 7 in operation 0, rank 0 3"));
    EXPECT_THAT(ranks_[r].Check().message(), HasSubstr("an exchange of NCCL failed"));
    EXPECT_THAT(Sum(r).message(), HasSubstr("a call of CUDA failed"));
  }
}

TEST_F(CollectivesTest, WhatCannotBeIsRefused) {
  const auto sum = [&](const float* send, float* receive, size_t count, int stream) {
    return ranks_[0].AllReduceSum(send, receive, count, CollectiveType::kF32, streams_[stream]);
  };
  float host[3] = {};
  const absl::Status refused[] = {
      sum(x_[0], x_[1], 3, 0),                    // another's memory
      sum(x_[0], x_[0], 3, 1),                    // another's stream
      sum(host, x_[0], 3, 0),                     // the host's memory
      sum(x_[0], x_[0], kCount * kRanks + 1, 0),  // too much
      ranks_[0].AllReduceSum(x_[0], x_[0], 3, CollectiveType::kU8, streams_[0]),
      library_->InitAll({0, 0}).status(),
      library_->InitAll({0, 4}).status(),
      library_->InitRank({}, 2, 0).status(),
  };
  for (const absl::Status& status : refused) {
    EXPECT_THAT(status.message(), HasSubstr("invalid argument"));
  }
  const auto without = [](const std::string& missing) {
    return Collectives::Open([missing](const char* name) {
             return missing == name ? nullptr : simt::FindNcclFunction(name);
           })
        .status();
  };
  EXPECT_THAT(without("ncclGroupEnd").message(), HasSubstr("no function ncclGroupEnd"));
  EXPECT_EQ(library_->version(), 22809);
}

#if __has_include(<nccl.h>)
TEST(CollectiveFunctionsTest, AreThoseOfTheHeader) {
  EXPECT_EQ(kCollectiveSuccess, ncclSuccess);
  EXPECT_EQ(kCollectiveCudaError, ncclUnhandledCudaError);
  EXPECT_EQ(kCollectiveSystemError, ncclSystemError);
  EXPECT_EQ(kCollectiveInvalidArgument, ncclInvalidArgument);
  EXPECT_EQ(kCollectiveInvalidUsage, ncclInvalidUsage);
  EXPECT_EQ(kCollectiveRemoteError, ncclRemoteError);
  EXPECT_EQ(kCollectiveInProgress, ncclInProgress);
  EXPECT_EQ(kCollectiveUint8, ncclUint8);
  EXPECT_EQ(kCollectiveF16, ncclFloat16);
  EXPECT_EQ(kCollectiveF32, ncclFloat32);
  EXPECT_EQ(kCollectiveBf16, ncclBfloat16);
  EXPECT_EQ(kCollectiveSum, ncclSum);
  EXPECT_EQ(kCollectiveMax, ncclMax);
  EXPECT_EQ(sizeof(CollectiveId), sizeof(ncclUniqueId));
}

template <class A>
using Argument = std::conditional_t<std::is_pointer_v<A>, void*, A>;
template <class A, class B>
inline constexpr bool kSameArgument =
    sizeof(Argument<A>) == sizeof(Argument<B>) && std::is_pointer_v<A> == std::is_pointer_v<B> &&
    std::is_class_v<A> == std::is_class_v<B>;
template <class R, class... A, class S, class... B>
constexpr bool HaveTheSameShape(R (*)(A...), S (*)(B...)) {
  if constexpr (sizeof...(A) == sizeof...(B)) {
    return (kSameArgument<A, B> && ...) && sizeof(R) == sizeof(S);
  }
  return false;
}
#define SAME(member, real) \
  static_assert(HaveTheSameShape(decltype(CollectiveFunctions::member){}, decltype(&(real)){}))
SAME(version, ncclGetVersion);
SAME(make_id, ncclGetUniqueId);
SAME(init_rank, ncclCommInitRank);
SAME(init_all, ncclCommInitAll);
SAME(destroy, ncclCommDestroy);
SAME(abort, ncclCommAbort);
SAME(async_error, ncclCommGetAsyncError);
SAME(all_reduce, ncclAllReduce);
SAME(all_gather, ncclAllGather);
SAME(group_start, ncclGroupStart);
SAME(group_end, ncclGroupEnd);
SAME(error_string, ncclGetErrorString);
#undef SAME
#else
TEST(CollectiveFunctionsTest, AreThoseOfTheHeader) { GTEST_SKIP() << "nccl.h is not there"; }
#endif

}  // namespace
}  // namespace sluice::cuda
