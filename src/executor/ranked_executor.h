// One executor a rank of a tensor-parallel model, each on a thread of its own: every rank computes
// every plan with its share of the weights and samples the same tokens, and rank 0's results count.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "step/executor.h"

namespace sluice {

// Engine thread only.
class RankedExecutor final : public Executor {
 public:
  // Makes a rank's executor, on its thread, which also drives and destroys it. Once a rank has
  // failed, the others' Wait must end by itself (see CreateCudaRanks).
  using MakeRank = std::function<absl::StatusOr<std::unique_ptr<Executor>>(int32_t rank)>;
  // Returns when all are made. Errors: that of the first rank in order that has one.
  static absl::StatusOr<std::unique_ptr<RankedExecutor>> Create(int32_t num_ranks,
                                                                const MakeRank& make);
  ~RankedExecutor() override;

  [[nodiscard]] int max_steps_in_flight() const override { return max_steps_in_flight_; }
  absl::Status Submit(BatchPlan plan) override;
  // Errors: that of the first rank in order that has one.
  absl::StatusOr<StepResult> Wait(StepId step) override;

 private:
  struct Stop {};
  using Command = std::variant<BatchPlan, StepId, Stop>;
  // A queue to each rank's thread and one back.
  struct Rank {
    Mutex mutex;
    CondVar changed;
    std::deque<Command> commands ABSL_GUARDED_BY(mutex);
    std::optional<absl::StatusOr<int>> made ABSL_GUARDED_BY(mutex);  // its max_steps_in_flight
    std::deque<absl::StatusOr<StepResult>> results ABSL_GUARDED_BY(mutex);
    std::thread thread;
  };

  RankedExecutor() = default;
  static void Serve(Rank& rank, int32_t index, const MakeRank& make);
  static void Send(Rank& rank, Command command);

  std::vector<std::unique_ptr<Rank>> ranks_;
  int max_steps_in_flight_ = 1;
  absl::Status failure_;  // the first; nothing is submitted after it
};

}  // namespace sluice
