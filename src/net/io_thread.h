// One I/O thread: its io_context, its batch of sends, and a sweep that comes again and again.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "base/stage_watch.h"
#include "net/asio.h"
#include "net/send_batch.h"
#include "sluice/config.h"

namespace sluice {

class IoThread {
 public:
  // `sweep` is called on the thread at least eight times in the shortest timeout of the config,
  // also when there is nothing to do: that it comes is the sign, for `stage`, that the thread is
  // well.
  using Sweep = std::function<void(std::chrono::steady_clock::time_point now)>;
  IoThread(const Config* config, const Clock* clock, std::shared_ptr<Stage> stage, Sweep sweep);
  ~IoThread();

  void Start();
  void Stop();  // thread-safe; what is queued is dropped
  void Join();  // after Stop

  [[nodiscard]] asio::io_context& io() { return io_; }
  // The thread's own; null: each wire sends by itself.
  [[nodiscard]] SendBatch* batch() { return batch_.get(); }
  [[nodiscard]] bool is_this_thread() { return io_.get_executor().running_in_this_thread(); }

 private:
  void SweepAgain();

  const Config& config_;
  const Clock* const clock_;
  const std::shared_ptr<Stage> stage_;  // owners: this and the watch
  const Sweep sweep_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::steady_timer sweep_timer_;
  std::unique_ptr<SendBatch> batch_;
  std::thread thread_;
};

}  // namespace sluice
