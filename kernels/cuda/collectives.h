// Sums and gathers over the ranks of a tensor-parallel model, by NVIDIA's NCCL. The library is
// opened when a second device is used, and only then.
//
// A collective is work on a stream of its rank's device, which ends when every rank's has begun:
// all ranks enqueue the same collectives in the same order. One thread that serves several ranks
// does so within Group(). NCCL's order of addition depends on the topology it finds, the number of
// ranks and the count: promise 3 holds for one machine and one tensor-parallel size.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/collectives_functions.h"
#include "kernels/cuda/library.h"

namespace sluice::cuda {

enum class CollectiveType : uint8_t { kU8, kF16, kBf16, kF32 };

// A rank's end of the ranks' exchange. Used by one thread at a time.
class Communicator {
 public:
  Communicator(const CollectiveFunctions& functions, void* handle)
      : functions_(&functions), handle_(handle) {}
  ~Communicator();
  Communicator(Communicator&& other) noexcept;
  Communicator& operator=(Communicator&& other) noexcept;

  // receive[i] = the sum over all ranks of send[i], i in [0, count), the same bits on each rank;
  // receive may be send. f16, bf16 or f32.
  // Errors: Internal, with NCCL's reason.
  absl::Status AllReduceSum(const void* send, void* receive, size_t count, CollectiveType type,
                            cudaStream_t stream) const;
  // receive[r * count + i] = send[i] of rank r; send may be its own part of receive.
  absl::Status AllGather(const void* send, void* receive, size_t count, CollectiveType type,
                         cudaStream_t stream) const;

  // What has gone wrong on the way since (a peer that died), asked once a step.
  [[nodiscard]] absl::Status Check() const;
  // Ends collectives under way that wait for a rank that will not come. The rank is of no use then.
  void Abort();

 private:
  const CollectiveFunctions* functions_;
  void* handle_;
};

// The library. Outlives its communicators.
class Collectives {
 public:
  // `find`: null for the library itself. Errors: NotFound without it or one of its functions.
  static absl::StatusOr<std::unique_ptr<Collectives>> Open(FindFunction find = nullptr);

  // All ranks in this process: rank r on devices[r].
  absl::StatusOr<std::vector<Communicator>> InitAll(absl::Span<const int> devices) const;

  // A rank a process or thread: one makes the id, all join with it, on their current device.
  // Returns when all have joined.
  absl::StatusOr<CollectiveId> MakeId() const;
  absl::StatusOr<Communicator> InitRank(const CollectiveId& id, int num_ranks, int rank) const;

  // Collectives of several ranks that one thread enqueues in `body` begin together.
  absl::Status Group(absl::FunctionRef<absl::Status()> body) const;

  // As 22809 for 2.28.9.
  [[nodiscard]] int version() const;

 private:
  explicit Collectives(const CollectiveFunctions& functions) : functions_(functions) {}
  const CollectiveFunctions functions_;
};

}  // namespace sluice::cuda
