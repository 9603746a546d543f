// A management library with one device, "0000:01:00.0", for nvml_test.cc. Written from NVML's API
// reference, not from what the code under test declares. fake_nvml_state says how it behaves.
#include "tests/cuda/fake/nvml.h"

#include <cstring>

FakeNvmlState fake_nvml_state;

namespace {

char device;

int Answer(void* asked) {
  if (asked != &device) return 2;  // NVML_ERROR_INVALID_ARGUMENT
  return fake_nvml_state.error;
}

}  // namespace

extern "C" {

int nvmlInit_v2() {
  if (fake_nvml_state.init_error != 0) return fake_nvml_state.init_error;
  ++fake_nvml_state.num_users;
  return 0;
}
int nvmlShutdown() {
  --fake_nvml_state.num_users;
  return 0;
}
const char* nvmlErrorString(int error) {
  switch (error) {
    case 6:
      return "Not Found";
    case 9:
      return "Driver Not Loaded";
    default:
      return "an error";
  }
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** found) {
  if (std::strcmp(bus_id, "0000:01:00.0") != 0) return 6;  // NVML_ERROR_NOT_FOUND
  *found = &device;
  return 0;
}
int nvmlDeviceGetUtilizationRates(void* asked, unsigned* gpu_then_memory) {
  gpu_then_memory[0] = 75;
  gpu_then_memory[1] = 40;
  return Answer(asked);
}
int nvmlDeviceGetMemoryInfo(void* asked, unsigned long long* total_free_used) {
  total_free_used[0] = 80ULL << 30;
  total_free_used[1] = 50ULL << 30;
  total_free_used[2] = 30ULL << 30;
  return Answer(asked);
}
int nvmlDeviceGetPowerUsage(void* asked, unsigned* milliwatts) {
  *milliwatts = 312500;
  return Answer(asked);
}
int nvmlDeviceGetTemperature(void* asked, int sensor, unsigned* celsius) {
  *celsius = sensor == 0 ? 61 : 0;
  return Answer(asked);
}
int nvmlDeviceGetClockInfo(void* asked, int type, unsigned* megahertz) {
  *megahertz = type == 1 ? 1755 : type == 2 ? 2619 : 0;
  return Answer(asked);
}
// Of NVML_VOLATILE_ECC only; corrected ones are 0, uncorrected 1.
int nvmlDeviceGetTotalEccErrors(void* asked, int kind, int counter, unsigned long long* count) {
  if (counter != 0) return 2;
  if (!fake_nvml_state.has_ecc) return 3;  // NVML_ERROR_NOT_SUPPORTED
  *count = kind == 0 ? 7 : 2;
  return Answer(asked);
}
int nvmlEventSetCreate(void** events) {
  *events = &fake_nvml_state;
  ++fake_nvml_state.num_event_sets;
  return 0;
}
int nvmlEventSetFree(void*) {
  --fake_nvml_state.num_event_sets;
  return 0;
}
int nvmlDeviceRegisterEvents(void* asked, unsigned long long types, void*) {
  if (fake_nvml_state.refuses_events) return 4;  // NVML_ERROR_NO_PERMISSION
  return types == 8 ? Answer(asked) : 3;
}
int nvmlEventSetWait_v2(void*, FakeNvmlEvent* event, unsigned milliseconds) {
  if (fake_nvml_state.num_xid_errors == 0) return milliseconds == 0 ? 10 : 1;  // a timeout
  --fake_nvml_state.num_xid_errors;
  *event = {&device, 8, 79, 0, 0};
  return 0;
}

}  // extern "C"
