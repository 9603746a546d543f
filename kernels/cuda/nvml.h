// The health of a device, from NVIDIA's management library (NVML), which comes with the driver. The
// library is opened at run time; what it, a card or a driver does not tell is absent.
//
// Its functions are declared in nvml.cc, by us: no package of the toolkit has its header. Source:
// NVML API Reference Guide.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/cuda/library.h"

namespace sluice::cuda {

struct DeviceHealth {
  // Of the last sample period (a sixth of a second to a second): share of time with a kernel
  // running, and with memory being read or written; 0 to 1.
  std::optional<double> utilisation, memory_utilisation;
  std::optional<uint64_t> memory_used_bytes, memory_total_bytes;  // of all processes
  std::optional<double> power_watts, power_limit_watts;
  std::optional<double> temperature_celsius;
  std::optional<double> clock_hertz, memory_clock_hertz;  // now: of multiprocessors, of memory
  // Since the driver was loaded: errors of memory that were corrected, and that were not.
  std::optional<uint64_t> corrected_errors, uncorrected_errors;
  // Critical errors (Xid) since Open: how many, and the last one's number, as in the driver's log.
  std::optional<uint64_t> num_xid_errors;
  std::optional<uint64_t> last_xid_error;
  bool lost = false;  // the device does not answer any more
};

// One device. Used by one thread at a time.
class DeviceMonitor {
 public:
  // `pci_bus_id` as cudaDeviceGetPCIBusId writes it: CUDA and NVML number devices differently.
  // `find`: null for the library itself.
  // Errors: NotFound without the library or what it cannot do without; Unavailable if it does not
  // start (no driver) or does not know the device.
  static absl::StatusOr<std::unique_ptr<DeviceMonitor>> Open(const std::string& pci_bus_id,
                                                             FindFunction find = nullptr);
  ~DeviceMonitor();
  DeviceMonitor(const DeviceMonitor&) = delete;
  DeviceMonitor& operator=(const DeviceMonitor&) = delete;

  // Asks the driver: some milliseconds. Not in the path of a step.
  DeviceHealth Read();

 private:
  struct Functions;
  explicit DeviceMonitor(std::unique_ptr<Functions> functions);
  void WatchForXid();
  void ReadXid(DeviceHealth& health);

  const std::unique_ptr<Functions> functions_;
  void *device_ = nullptr, *events_ = nullptr;
  uint64_t num_xid_errors_ = 0;
  std::optional<uint64_t> last_xid_error_;
};

}  // namespace sluice::cuda
