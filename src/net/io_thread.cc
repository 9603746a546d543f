#include "net/io_thread.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "absl/time/time.h"
#include "base/thread_name.h"

namespace sluice {
namespace {

// An eighth of the shortest timeout, so that none is missed by more than that.
std::chrono::milliseconds SweepInterval(const Config& config) {
  const double shortest =
      std::min({config.read_timeout_s, config.idle_timeout_s, config.write_timeout_s});
  return std::chrono::milliseconds(
      std::clamp(static_cast<int64_t>(shortest * 125), int64_t{5}, int64_t{250}));
}

}  // namespace

IoThread::IoThread(const Config* config, const Clock* clock, std::shared_ptr<Stage> stage,
                   Sweep sweep)
    : config_(*config),
      clock_(clock),
      stage_(std::move(stage)),
      sweep_(std::move(sweep)),
      work_(asio::make_work_guard(io_)),
      sweep_timer_(io_) {}

IoThread::~IoThread() = default;

void IoThread::Start() {
  SweepAgain();
  thread_ = std::thread([this] {
    NameThread("io");
    // Signals are the main thread's; SIGPIPE must not end the process when OpenSSL writes to a
    // closed socket.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    if (config_.io_uring) batch_ = SendBatch::Create();
    io_.run();
    batch_.reset();
    stage_->Rest();
  });
}

void IoThread::Stop() {
  asio::post(io_, [this] {
    work_.reset();
    io_.stop();
  });
}

void IoThread::Join() {
  if (thread_.joinable()) thread_.join();
}

void IoThread::SweepAgain() {
  const std::chrono::milliseconds interval = SweepInterval(config_);
  const absl::Duration patience = absl::Seconds(config_.stall_timeout_s);
  stage_->Expect(clock_->Now() + std::max(patience, 4 * absl::FromChrono(interval)));
  sweep_(std::chrono::steady_clock::now());
  sweep_timer_.expires_after(interval);
  sweep_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) SweepAgain();
  });
}

}  // namespace sluice
