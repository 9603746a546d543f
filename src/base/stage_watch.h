// Threads that requests depend on, and whether each of them advances. Thread-safe.
#pragma once

#include <atomic>
#include <charconv>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"

namespace sluice {

// One such thread says when it will show the next time, or that it has nothing to do.
class Stage {
 public:
  explicit Stage(std::string name) : name_(std::move(name)) {}
  void Expect(absl::Time by) { by_.store(absl::ToUnixNanos(by)); }
  void Rest() { by_.store(kResting); }
  [[nodiscard]] bool IsLate(absl::Time now) const { return absl::ToUnixNanos(now) > by_.load(); }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  static constexpr int64_t kResting = std::numeric_limits<int64_t>::max();
  const std::string name_;
  std::atomic<int64_t> by_{kResting};  // Unix nanoseconds
};

class StageWatch {
 public:
  // A new stage. Owners: the watch, and the thread, which may outlive it.
  std::shared_ptr<Stage> Add(std::string name) {
    auto stage = std::make_shared<Stage>(std::move(name));
    const MutexLock lock(mutex_);
    stages_.push_back(stage);
    return stage;
  }

  // The name of one that is late; empty: none is.
  [[nodiscard]] std::string Late(absl::Time now) const {
    const MutexLock lock(mutex_);
    for (const auto& stage : stages_) {
      if (stage->IsLate(now)) return stage->name();
    }
    return {};
  }

 private:
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<Stage>> stages_ ABSL_GUARDED_BY(mutex_);
};

// For tests of the server: the number N of "stall-STAGE=N", the piece of work in which the stage is
// to hang for kPlantedStall; 0: that is not what `fault` says.
inline constexpr absl::Duration kPlantedStall = absl::Seconds(30);
inline int64_t PlantedStall(std::string_view fault, std::string_view stage) {
  constexpr std::string_view kPrefix = "stall-";
  if (!fault.starts_with(kPrefix)) return 0;
  fault.remove_prefix(kPrefix.size());
  if (!fault.starts_with(stage) || fault.substr(stage.size(), 1) != "=") return 0;
  fault.remove_prefix(stage.size() + 1);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(fault.data(), fault.data() + fault.size(), number);
  return error == std::errc() && end == fault.data() + fault.size() ? number : 0;
}

}  // namespace sluice
