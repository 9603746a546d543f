// Shows a device's health in the metrics, on a thread of its own.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "kernels/cuda/cuda_ops.h"
#include "metrics/metrics.h"

namespace sluice {

class DeviceWatch {
 public:
  // `metrics` outlives the watch.
  DeviceWatch(int device, CudaHealthReader read, Metrics* metrics);
  ~DeviceWatch();
  DeviceWatch(const DeviceWatch&) = delete;
  DeviceWatch& operator=(const DeviceWatch&) = delete;

 private:
  void Run();

  const int device_;
  const CudaHealthReader read_;
  Metrics* const metrics_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace sluice
