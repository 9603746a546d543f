// The CUDA runtime without a card: the functions of <cuda_runtime_api.h> that the backend calls,
// over emulated devices whose memory is the host's and whose kernels RunGrid executes. Link this
// instead of cudart.
//
// Work is lazy: a stream is a queue, and queues are run when somebody waits or asks (and at random
// moments besides), in an order that streams, events and graphs allow and the seed chooses. A
// missing dependency thus gives a wrong value for some seeds, and a host that reads the target of a
// copy under way reads what was there before, or 0xDB. Memory has a guard page on either side,
// holds 0xCD when new and cannot be touched once freed; device memory cannot be touched by host
// code at all (see HideFromHost).
//
// Pageable host memory, of which CUDA promises only that a copy "might" be synchronous: its bytes
// are read at the call or when the copy runs, and the call waits for a copy to it or does not, as
// the seed has it. cudaMemcpy from pageable memory returns before the data is on the device, where
// a non-blocking stream may miss it. Source: CUDA Runtime API, "API synchronization behavior".
//
// Not emulated: time (an operation takes one microsecond), textures, managed memory, peer access,
// cudaStreamPerThread. Thread-safe; one lock, held while work runs, so host functions of a stream
// must not call the runtime (a card forbids it too).
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kernels/simt/grid.h"

namespace sluice::simt {

// Enqueues a kernel's grid. `thread` is the kernel with its arguments, run once a thread; graphs
// keep it. `launch.kernel` must outlive the process's launches: a literal. Its seed and
// max_shared_bytes are set here. Errors: as cudaLaunchKernel, shared memory above 48 KiB included
// where cudaFuncSetAttribute was not called for `kernel` on this device.
cudaError_t EnqueueKernel(const void* kernel, const Launch& launch, cudaStream_t stream,
                          std::function<void()> thread);

// Enqueues a library's work (a GEMM, a collective) under `name`, which the statistics count as a
// kernel. It begins once `ready` (null: at once) is true, which is asked again whenever other work
// has run. For graphs, as above. Both run with the runtime's lock held.
cudaError_t EnqueueWork(const char* name, cudaStream_t stream, std::function<void()> run,
                        std::function<bool()> ready = nullptr);

// Calls `change` with the runtime's lock held; those who wait for work then ask again whether it is
// ready.
void ChangeWork(const std::function<void()>& change);

// Within `run`: the stream's device fails, and everything on it from now on returns `error`.
void FailWork(cudaError_t error, std::string message);

// Whether all of it lies in one allocation of the stream's device.
[[nodiscard]] bool IsOnDevice(const void* begin, size_t bytes, cudaStream_t stream);

// --- Settings, for tests ---

struct DeviceModel {
  std::string name = "Emulated device";
  int major = 9, minor = 0;  // compute capability; it decides how much shared memory there is
  size_t memory_bytes = size_t{4} << 30;
  int multiprocessors = 16;
  int l2_bytes = 32 << 20;
};

// What the process sees from now on; everything that was allocated, created or enqueued is gone,
// faults, statistics and findings too. At the start: four of DeviceModel{}.
void SetDevices(std::vector<DeviceModel> devices);

// Restarts the choices. 0: work runs in the order it was enqueued, blocks and lanes in ascending
// order, and nothing runs before it must. At the start: 0.
void SetSeed(uint64_t seed);

// Whether host code that touches device memory dies of it, as beside a card. At the start: yes.
void HideFromHost(bool hide);

// How long a call waits for work that another thread must enqueue before it returns
// cudaErrorLaunchTimeout. At the start: 20 s.
void SetStallTimeout(absl::Duration timeout);
[[nodiscard]] absl::Duration StallTimeout();

// The call `at` ("cudaMalloc") returns `error` once, after `skip` calls that do not; or, where `at`
// names a kernel, that kernel fails while it runs. Errors that a card does not recover from
// (cudaErrorLaunchFailure, cudaErrorECCUncorrectable, ...) then stay with the device.
struct Fault {
  std::string at;
  cudaError_t error = cudaErrorUnknown;
  uint64_t skip = 0;
};
void InjectFault(Fault fault);

// --- What happened ---

struct KernelStatistics {
  uint64_t launches = 0, blocks = 0, threads = 0, barriers = 0, warp_operations = 0, switches = 0;
  uint64_t matrix_instructions = 0;
  MemoryCounters memory;  // of checked kernels, if asked for (profile.h)
};
struct Statistics {
  std::map<std::string, KernelStatistics> kernels;  // by name
  std::map<std::string, uint64_t> calls;            // of the runtime, by function
  uint64_t host_to_device_bytes = 0, device_to_host_bytes = 0, device_to_device_bytes = 0;
  uint64_t graph_launches = 0;
  size_t peak_memory_bytes = 0;  // of the device that held most
};

// Of all launches since the last call. A launch with a finding fails its device.
[[nodiscard]] std::vector<Finding> TakeFindings();
[[nodiscard]] Statistics TakeStatistics();

// Why the calling thread's last error was returned, in one sentence; "" if there is nothing to add
// to its name.
[[nodiscard]] std::string LastRefusal();

}  // namespace sluice::simt
