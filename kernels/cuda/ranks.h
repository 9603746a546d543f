// The ranks of a tensor-parallel model: one device each, all in this process, and what they share:
// NCCL's communicators and the first failure.
//
// A rank that fails would leave the others' devices waiting for its part of an exchange. So the
// first failure ends every rank's exchanges at once, and all of them report it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "kernels/cuda/collectives.h"

namespace sluice::cuda {

// Thread-safe. A rank's graphs that hold exchanges are destroyed before the group.
class RankGroup {
 public:
  // Rank r on devices[r]. `find`: null for NCCL itself. Errors: NotFound without it; what it says.
  static absl::StatusOr<std::unique_ptr<RankGroup>> Create(const std::vector<int>& devices,
                                                           const FindFunction& find);
  ~RankGroup();

  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(members_.size()); }
  // Calls `enqueue` unless the group has failed; it puts work of that rank on its stream, be it an
  // exchange or a graph that holds some. Errors: the group's failure; what `enqueue` returns.
  absl::Status Run(int32_t rank, absl::FunctionRef<absl::Status(const Communicator&)> enqueue);
  // Notes the first failure, ends all exchanges, and returns the group's failure. Does not wait.
  absl::Status Fail(int32_t rank, const absl::Status& status);
  // Returns when all ranks have called it as often as this one, or the group has failed.
  void Meet();
  // What a rank's step ended with, given what its own device says: the group's failure, if any.
  absl::Status Outcome(int32_t rank, const absl::Status& status);

 private:
  struct Member {
    Mutex mutex;
    std::optional<Communicator> communicator ABSL_GUARDED_BY(mutex);  // none: the group has failed
    std::thread aborter;  // an abort waits for the rank's own thread to let go of its graphs
  };

  explicit RankGroup(std::unique_ptr<Collectives> library) : library_(std::move(library)) {}

  const std::unique_ptr<Collectives> library_;
  std::vector<std::unique_ptr<Member>> members_;
  Mutex mutex_;
  CondVar met_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  int32_t num_here_ ABSL_GUARDED_BY(mutex_) = 0;      // at the next meeting
  int64_t num_meetings_ ABSL_GUARDED_BY(mutex_) = 0;  // so far
};

}  // namespace sluice::cuda
