// The functions of NCCL 2 that collectives.cc calls, declared by us, so that a build needs nothing
// of it. tests/simt/nccl_test.cc compares these with its header where that is to be had.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace sluice::cuda {

using CollectiveStatus = int;
inline constexpr CollectiveStatus kCollectiveSuccess = 0, kCollectiveCudaError = 1,
                                  kCollectiveSystemError = 2, kCollectiveInvalidArgument = 4,
                                  kCollectiveInvalidUsage = 5, kCollectiveRemoteError = 6,
                                  kCollectiveInProgress = 7;
inline constexpr int kCollectiveUint8 = 1, kCollectiveF16 = 6, kCollectiveF32 = 7,
                     kCollectiveBf16 = 9;
inline constexpr int kCollectiveSum = 0, kCollectiveMax = 2;

struct CollectiveId {
  char bytes[128];
};

// Communicators are opaque.
struct CollectiveFunctions {
  CollectiveStatus (*version)(int* version);
  CollectiveStatus (*make_id)(CollectiveId* id);
  CollectiveStatus (*init_rank)(void** communicator, int num_ranks, CollectiveId id, int rank);
  CollectiveStatus (*init_all)(void** communicators, int num_devices, const int* devices);
  CollectiveStatus (*destroy)(void* communicator);
  CollectiveStatus (*abort)(void* communicator);
  CollectiveStatus (*async_error)(void* communicator, CollectiveStatus* error);
  CollectiveStatus (*all_reduce)(const void* send, void* receive, size_t count, int type,
                                 int reduction, void* communicator, cudaStream_t stream);
  CollectiveStatus (*all_gather)(const void* send, void* receive, size_t send_count, int type,
                                 void* communicator, cudaStream_t stream);
  CollectiveStatus (*group_start)();
  CollectiveStatus (*group_end)();
  const char* (*error_string)(CollectiveStatus error);
};

}  // namespace sluice::cuda
