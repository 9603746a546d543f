#include "apps/device_watch.h"

#include <chrono>
#include <utility>

namespace sluice {
namespace {

constexpr std::chrono::seconds kPeriod{5};

DeviceGauges GaugesOf(const cuda::DeviceHealth& health) {
  return {.utilisation = health.utilisation,
          .memory_used_bytes = health.memory_used_bytes,
          .memory_total_bytes = health.memory_total_bytes,
          .power_watts = health.power_watts,
          .power_limit_watts = health.power_limit_watts,
          .temperature_celsius = health.temperature_celsius,
          .clock_hertz = health.clock_hertz,
          .memory_clock_hertz = health.memory_clock_hertz,
          .corrected_errors = health.corrected_errors,
          .uncorrected_errors = health.uncorrected_errors,
          .xid_errors = health.num_xid_errors,
          .lost = health.lost};
}

}  // namespace

DeviceWatch::DeviceWatch(int device, CudaHealthReader read, Metrics* metrics)
    : device_(device), read_(std::move(read)), metrics_(metrics), thread_([this] { Run(); }) {}

DeviceWatch::~DeviceWatch() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_one();
  thread_.join();
}

void DeviceWatch::Run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    lock.unlock();
    metrics_->SetDevice(device_, GaugesOf(read_()));
    lock.lock();
    stopped_.wait_for(lock, kPeriod, [this] { return stop_; });
  }
}

}  // namespace sluice
