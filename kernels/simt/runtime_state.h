// What the emulated runtime knows: one object a process, as CUDA's own is. Private to this folder.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "kernels/simt/runtime.h"
#include "kernels/simt/runtime_memory.h"
#include "kernels/simt/runtime_queue.h"

namespace sluice::simt {

struct Device {
  DeviceModel model;
  size_t used_bytes = 0;
  cudaError_t failed = cudaSuccess;  // for good
  std::string failure;
  Stream* legacy = nullptr;
  std::map<const void*, size_t> dynamic_shared;  // by kernel: cudaFuncSetAttribute's
  [[nodiscard]] int capability() const { return model.major * 10 + model.minor; }
  // What a block may have if it asks for it; a multiprocessor has 1 KiB more.
  [[nodiscard]] size_t max_shared_bytes() const;
};

class Runtime {
 public:
  // Locked by the caller for as long as it uses it.
  static Runtime& Get();
  Mutex mutex;

  void SetDevices(std::vector<DeviceModel> models);

  // --- Of the calling thread ---
  struct ThreadState {
    int device = 0;
    cudaError_t last_error = cudaSuccess;
    std::string refusal;
    bool in_host_function = false;
  };
  static ThreadState& thread();
  [[nodiscard]] Device& device() { return devices[static_cast<size_t>(thread().device)]; }
  // Notes why and returns `error`.
  static cudaError_t Refuse(cudaError_t error, std::string why);

  // --- Work ---
  // Null: no such stream.
  Stream* FindStream(cudaStream_t handle);
  // Appends; a refusal if the stream is unknown or the device has failed. Now and then runs some.
  cudaError_t Enqueue(cudaStream_t stream, Operation operation);
  // Runs work until done(). Errors: the device's; cudaErrorLaunchTimeout if nothing can go on.
  template <class Done>
  cudaError_t RunUntil(int device, const Done& done) {
    while (!done()) {
      if (!Step() && !WaitForOthers() && !done()) return Stalled();
    }
    const Device& ran = devices[static_cast<size_t>(device)];
    return ran.failed == cudaSuccess ? cudaSuccess : Refuse(ran.failed, ran.failure);
  }
  bool Step();
  // From host code, if it is to be: at the end of each call.
  void HideMemory() {
    memory.Show(hide_from_host ? GuardedMemory::kNoDevice : GuardedMemory::kAllDevices);
  }
  void Fail(int device, cudaError_t error, std::string why);
  // A call that must not be made while something captures: refused, and the capture with it.
  cudaError_t RefuseInCapture(const char* call);
  void RunKernel(int device, const Launch& launch, const std::function<void()>& thread);
  // The error to inject at `name`, if any.
  cudaError_t TakeFault(const std::string& name);

  std::vector<Device> devices;
  GuardedMemory memory;
  Queues queues = MakeQueues();
  std::set<Event*> events;
  std::set<Graph*> graphs;
  std::map<const void*, std::shared_ptr<GraphProgram>> programs;  // owners: this and the launches
  std::vector<Fault> faults;
  std::vector<Finding> findings;
  Statistics statistics;
  bool hide_from_host = true;
  absl::Duration stall_timeout = absl::Seconds(20);
  CondVar enqueued;
  int running_device = -1;  // whose operation runs
  const char* running_kernel = "";

 private:
  Queues MakeQueues();
  bool WaitForOthers();
  cudaError_t Stalled();
  void BlameForDamage(const Launch& launch);
};

enum class CallKind : uint8_t {
  kOrdinary,
  kNotInCapture,
  kHarmless,  // answers on a failed device too
};

// What all functions of the runtime have in common: the lock, refusals, faults and the thread's
// last error. body(runtime) returns the call's result.
template <class Body>
cudaError_t Call(const char* name, CallKind kind, const Body& body) {
  Runtime::ThreadState& thread = Runtime::thread();
  if (thread.in_host_function) {
    return thread.last_error = Runtime::Refuse(cudaErrorNotPermitted,
                                               std::string(name) + " in a stream's host function");
  }
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  thread.refusal.clear();
  ++runtime.statistics.calls[name];
  const auto result = [&]() -> cudaError_t {
    if (const cudaError_t fault = runtime.TakeFault(name); fault != cudaSuccess) return fault;
    if (runtime.devices.empty()) return cudaErrorNoDevice;
    if (thread.device >= static_cast<int>(runtime.devices.size())) thread.device = 0;
    if (kind == CallKind::kHarmless) return body(runtime);
    if (const Device& device = runtime.device(); device.failed != cudaSuccess) {
      return Runtime::Refuse(device.failed, device.failure);
    }
    if (kind == CallKind::kNotInCapture) {
      if (const cudaError_t error = runtime.RefuseInCapture(name); error != cudaSuccess) {
        return error;
      }
    }
    return body(runtime);
  }();
  runtime.HideMemory();
  if (result != cudaSuccess && result != cudaErrorNotReady) thread.last_error = result;
  return result;
}

}  // namespace sluice::simt
