#include "kernels/cuda/nvml.h"

#include <fmt/format.h>

#include <utility>

#include "base/status_macros.h"

namespace sluice::cuda {
namespace {

using Status = int;
constexpr Status kSuccess = 0, kDeviceIsLost = 15;
constexpr int kTemperatureOfGpu = 0, kClockOfMultiprocessors = 1, kClockOfMemory = 2;
constexpr int kCorrected = 0, kUncorrected = 1, kSinceDriverLoad = 0;
constexpr unsigned long long kXidEvent = 8;

struct Utilisation {
  unsigned gpu, memory;  // per cent
};
struct Memory {
  unsigned long long total, free, used;
};
struct Event {
  void* device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

template <class T, class U = T>
std::optional<T> If(bool known, U value) {
  return known ? std::optional<T>(static_cast<T>(value)) : std::nullopt;
}

}  // namespace

// Null: the driver is older than the function, or newer.
struct DeviceMonitor::Functions {
  Status (*init)();
  Status (*shutdown)();
  const char* (*error_string)(Status);
  Status (*find_device)(const char* pci_bus_id, void** device);
  Status (*utilisation)(void* device, Utilisation*);
  Status (*memory)(void* device, Memory*);
  Status (*power)(void* device, unsigned* milliwatts);
  Status (*power_limit)(void* device, unsigned* milliwatts);
  Status (*temperature)(void* device, int sensor, unsigned* celsius);
  Status (*clock)(void* device, int which, unsigned* megahertz);
  Status (*memory_errors)(void* device, int kind, int since, unsigned long long* count);
  Status (*create_events)(void** events);
  Status (*free_events)(void* events);
  Status (*register_events)(void* device, unsigned long long types, void* events);
  Status (*wait_for_event)(void* events, Event*, unsigned milliseconds);

  // Calls `function` if there is one. `lost` is set if the device does not answer.
  template <class F, class... Args>
  static bool Ask(bool& lost, F* function, Args... args) {
    if (function == nullptr) return false;
    const Status status = function(args...);
    lost |= status == kDeviceIsLost;
    return status == kSuccess;
  }
};

DeviceMonitor::DeviceMonitor(std::unique_ptr<Functions> functions)
    : functions_(std::move(functions)) {}

DeviceMonitor::~DeviceMonitor() {
  if (events_ != nullptr) functions_->free_events(events_);
  functions_->shutdown();
}

absl::StatusOr<std::unique_ptr<DeviceMonitor>> DeviceMonitor::Open(const std::string& pci_bus_id,
                                                                   FindFunction find) {
  if (find == nullptr) {
    ASSIGN_OR_RETURN(find, OpenLibrary("libnvidia-ml.so.1"));
  }
  auto f = std::make_unique<Functions>();
  if (!FindInto(find, "nvmlInit_v2", f->init) || !FindInto(find, "nvmlShutdown", f->shutdown) ||
      !FindInto(find, "nvmlErrorString", f->error_string) ||
      !FindInto(find, "nvmlDeviceGetHandleByPciBusId_v2", f->find_device)) {
    return absl::NotFoundError("NVML lacks a function that it has had since 2016");
  }
  FindInto(find, "nvmlDeviceGetUtilizationRates", f->utilisation);
  FindInto(find, "nvmlDeviceGetMemoryInfo", f->memory);
  FindInto(find, "nvmlDeviceGetPowerUsage", f->power);
  FindInto(find, "nvmlDeviceGetEnforcedPowerLimit", f->power_limit);
  FindInto(find, "nvmlDeviceGetTemperature", f->temperature);
  FindInto(find, "nvmlDeviceGetClockInfo", f->clock);
  FindInto(find, "nvmlDeviceGetTotalEccErrors", f->memory_errors);
  const bool has_events = FindInto(find, "nvmlEventSetCreate", f->create_events) &&
                          FindInto(find, "nvmlEventSetFree", f->free_events) &&
                          FindInto(find, "nvmlDeviceRegisterEvents", f->register_events) &&
                          FindInto(find, "nvmlEventSetWait_v2", f->wait_for_event);
  if (const Status status = f->init(); status != kSuccess) {
    return absl::UnavailableError(fmt::format("NVML does not start: {}", f->error_string(status)));
  }
  std::unique_ptr<DeviceMonitor> monitor(new DeviceMonitor(std::move(f)));
  const Functions& functions = *monitor->functions_;
  if (const Status status = functions.find_device(pci_bus_id.c_str(), &monitor->device_);
      status != kSuccess) {
    return absl::UnavailableError(fmt::format("NVML does not know the device at {}: {}", pci_bus_id,
                                              functions.error_string(status)));
  }
  if (has_events) monitor->WatchForXid();
  return monitor;
}

void DeviceMonitor::WatchForXid() {
  const Functions& f = *functions_;
  if (f.create_events(&events_) != kSuccess) {
    events_ = nullptr;
    return;
  }
  if (f.register_events(device_, kXidEvent, events_) == kSuccess) return;
  f.free_events(std::exchange(events_, nullptr));
}

void DeviceMonitor::ReadXid(DeviceHealth& health) {
  if (events_ == nullptr) return;
  constexpr int kMaxEvents = 1000;  // a device in trouble may never be done
  Event event = {};
  for (int i = 0; i < kMaxEvents && functions_->wait_for_event(events_, &event, 0) == kSuccess;
       ++i) {
    if ((event.type & kXidEvent) == 0) continue;
    ++num_xid_errors_;
    last_xid_error_ = event.data;
  }
  health.num_xid_errors = num_xid_errors_;
  health.last_xid_error = last_xid_error_;
}

DeviceHealth DeviceMonitor::Read() {
  const Functions& f = *functions_;
  DeviceHealth health;
  const auto ask = [&](auto function, auto... args) {
    return Functions::Ask(health.lost, function, device_, args...);
  };
  Utilisation utilisation = {};
  bool known = ask(f.utilisation, &utilisation);
  health.utilisation = If<double>(known, utilisation.gpu / 100.0);
  health.memory_utilisation = If<double>(known, utilisation.memory / 100.0);
  Memory memory = {};
  known = ask(f.memory, &memory);
  health.memory_used_bytes = If<uint64_t>(known, memory.used);
  health.memory_total_bytes = If<uint64_t>(known, memory.total);
  unsigned value = 0;
  known = ask(f.power, &value);
  health.power_watts = If<double>(known, value / 1e3);
  known = ask(f.power_limit, &value);
  health.power_limit_watts = If<double>(known, value / 1e3);
  known = ask(f.temperature, kTemperatureOfGpu, &value);
  health.temperature_celsius = If<double>(known, value);
  known = ask(f.clock, kClockOfMultiprocessors, &value);
  health.clock_hertz = If<double>(known, value * 1e6);
  known = ask(f.clock, kClockOfMemory, &value);
  health.memory_clock_hertz = If<double>(known, value * 1e6);
  unsigned long long count = 0;
  known = ask(f.memory_errors, kCorrected, kSinceDriverLoad, &count);
  health.corrected_errors = If<uint64_t>(known, count);
  known = ask(f.memory_errors, kUncorrected, kSinceDriverLoad, &count);
  health.uncorrected_errors = If<uint64_t>(known, count);
  ReadXid(health);
  return health;
}

}  // namespace sluice::cuda
