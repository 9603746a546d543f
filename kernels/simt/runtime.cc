#include "kernels/simt/runtime.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "kernels/simt/runtime_crash.h"
#include "kernels/simt/runtime_state.h"

namespace sluice::simt {
namespace {

// What stays with the device until the process ends.
bool IsLasting(cudaError_t error) {
  switch (error) {
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorAssert:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

}  // namespace

// Table "Technical Specifications per Compute Capability" of the CUDA programming guide.
size_t Device::max_shared_bytes() const {
  switch (capability()) {
    case 80:
    case 87:
      return size_t{163} << 10;
    case 90:
    case 100:
    case 103:
      return size_t{227} << 10;
    case 75:
      return size_t{64} << 10;
    default:
      return size_t{99} << 10;
  }
}

Runtime& Runtime::Get() {
  static Runtime* const runtime = [] {  // never destroyed: statics of others may still call
    auto* const made = new Runtime;
    made->SetDevices(std::vector<DeviceModel>(4));
    return made;
  }();
  return *runtime;
}

Runtime::ThreadState& Runtime::thread() {
  thread_local ThreadState state;
  return state;
}

void Runtime::SetDevices(std::vector<DeviceModel> models) {
  const uint64_t seed = queues.seed();
  memory.~GuardedMemory();
  new (&memory) GuardedMemory;
  HideMemory();
  queues = MakeQueues();
  queues.Seed(seed);
  for (Event* const event : events) delete event;
  for (Graph* const graph : graphs) delete graph;
  events.clear();
  graphs.clear();
  programs.clear();
  faults.clear();
  findings.clear();
  statistics = {};
  devices.clear();
  for (DeviceModel& model : models) devices.push_back({.model = std::move(model)});
  for (size_t i = 0; i < devices.size(); ++i) {
    devices[i].legacy = &queues.AddStream(static_cast<int>(i), true, false);
  }
  thread() = {};
}

cudaError_t Runtime::Refuse(cudaError_t error, std::string why) {
  thread().refusal = std::move(why);
  return error;
}

Stream* Runtime::FindStream(cudaStream_t handle) {
  if (devices.empty()) return nullptr;
  if (handle == nullptr || handle == cudaStreamLegacy) return device().legacy;
  const auto& streams = queues.streams();
  const auto it = std::ranges::find_if(streams, [handle](const auto& stream) {
    return reinterpret_cast<cudaStream_t>(stream.get()) == handle;
  });
  return it == streams.end() || (*it)->destroyed || (*it)->legacy ? nullptr : it->get();
}

cudaError_t Runtime::Enqueue(cudaStream_t handle, Operation operation) {
  Stream* const stream = FindStream(handle);
  if (stream == nullptr) return Refuse(cudaErrorInvalidResourceHandle, "no such stream");
  const Device& target = devices[static_cast<size_t>(stream->device)];
  if (target.failed != cudaSuccess) return Refuse(target.failed, target.failure);
  if (stream->legacy) {
    for (const auto& other : queues.streams()) {
      if (other->blocking && other->device == stream->device && other->capture != nullptr) {
        other->capture->invalid = true;
        return Refuse(cudaErrorStreamCaptureImplicit,
                      "the default stream would wait for a stream that captures");
      }
    }
  }
  queues.Push(*stream, std::move(operation));
  enqueued.notify_all();
  if (queues.IsEager()) {
    for (uint32_t steps = queues.Choose(8); steps > 0 && Step(); --steps) {
    }
  }
  return cudaSuccess;
}

// A kernel sees the memory of its device: none of the others', as on cards without peer access.
Queues Runtime::MakeQueues() {
  static_assert(GuardedMemory::kAllDevices == -1);
  return Queues([this](const Operation& operation) { memory.Show(operation.of_kernel); });
}

bool Runtime::Step() {
  ExplainCrashes();
  if (!queues.Step()) return false;
  enqueued.notify_all();  // it may be what another thread waits for
  return true;
}

bool Runtime::WaitForOthers() {
  return enqueued.wait_for(mutex, absl::ToChronoNanoseconds(stall_timeout)) ==
         std::cv_status::no_timeout;
}

cudaError_t Runtime::Stalled() {
  return Refuse(cudaErrorLaunchTimeout,
                "nothing that is enqueued can go on: it waits for work that nobody enqueues");
}

void Runtime::Fail(int device, cudaError_t error, std::string why) {
  Device& failed = devices[static_cast<size_t>(device)];
  if (failed.failed != cudaSuccess) return;
  failed.failed = error;
  failed.failure = std::move(why);
  queues.Drop(device);
}

cudaError_t Runtime::RefuseInCapture(const char* call) {
  for (const auto& stream : queues.streams()) {
    Capture* const capture = stream->capture.get();
    if (capture == nullptr || capture->mode == cudaStreamCaptureModeRelaxed) continue;
    if (capture->mode == cudaStreamCaptureModeThreadLocal &&
        capture->thread != std::this_thread::get_id()) {
      continue;
    }
    capture->invalid = true;
    return Refuse(cudaErrorStreamCaptureUnsupported,
                  fmt::format("{} while a stream captures a graph", call));
  }
  return cudaSuccess;
}

cudaError_t Runtime::TakeFault(const std::string& name) {
  const auto it = std::ranges::find(faults, name, &Fault::at);
  if (it == faults.end()) return cudaSuccess;
  if (it->skip > 0) {
    --it->skip;
    return cudaSuccess;
  }
  const cudaError_t error = it->error;
  faults.erase(it);
  if (IsLasting(error) && running_device < 0 && !devices.empty()) {
    Fail(thread().device, error, "an injected fault at " + name);
  }
  return Refuse(error, "an injected fault at " + name);
}

void Runtime::RunKernel(int device, const Launch& launch, const std::function<void()>& thread) {
  running_device = device;
  running_kernel = launch.kernel;
  if (const cudaError_t fault = TakeFault(launch.kernel); fault != cudaSuccess) {
    Fail(device, fault, fmt::format("an injected fault in the kernel {}", launch.kernel));
    running_device = -1;
    return;
  }
  Launch seeded = launch;
  seeded.seed = queues.seed() == 0 ? 0 : queues.Choose(UINT32_MAX - 1) + uint64_t{1};
  LaunchReport report = RunGrid(seeded, thread);
  KernelStatistics& sum = statistics.kernels[launch.kernel];
  ++sum.launches;
  sum.blocks += report.blocks;
  sum.threads += report.threads;
  sum.barriers += report.barriers;
  sum.warp_operations += report.warp_operations;
  sum.switches += report.switches;
  sum.matrix_instructions += report.matrix_instructions;
  sum.memory += report.memory;
  if (!report.findings.empty()) {
    Fail(device, cudaErrorLaunchFailure, report.findings.front().ToString());
    std::ranges::move(report.findings, std::back_inserter(findings));
  }
  BlameForDamage(launch);
  running_device = -1;
}

// Writes beyond an allocation that stay within its pages.
void Runtime::BlameForDamage(const Launch& launch) {
  const MemoryBlock* const block = memory.FindDamaged();
  if (block == nullptr) return;
  Finding finding{.kind = FindingKind::kLaunch,
                  .message = fmt::format("a write past an allocation of {} bytes", block->bytes),
                  .kernel = launch.kernel};
  Fail(running_device, cudaErrorIllegalAddress, finding.ToString());
  findings.push_back(std::move(finding));
}

cudaError_t EnqueueKernel(const void* kernel, const Launch& launch, cudaStream_t stream,
                          std::function<void()> thread) {
  return Call("cudaLaunchKernel", CallKind::kOrdinary, [&](Runtime& runtime) {
    const Stream* const target = runtime.FindStream(stream);
    if (target == nullptr || target->device != Runtime::thread().device) {
      return Runtime::Refuse(
          cudaErrorInvalidResourceHandle,
          fmt::format("kernel {}: the stream is no stream of the current device", launch.kernel));
    }
    const uint64_t threads = launch.block.count();
    if (threads < 1 || threads > kMaxBlockThreads || launch.block.z > 64 ||
        launch.grid.count() < 1 || launch.grid.x > INT32_MAX || launch.grid.y > kMaxGridYZ ||
        launch.grid.z > kMaxGridYZ) {
      return Runtime::Refuse(cudaErrorInvalidConfiguration,
                             fmt::format("kernel {}: {} x {} x {} blocks of {} x {} x {} threads",
                                         launch.kernel, launch.grid.x, launch.grid.y, launch.grid.z,
                                         launch.block.x, launch.block.y, launch.block.z));
    }
    const Device& device = runtime.device();
    const auto asked = device.dynamic_shared.find(kernel);
    const size_t limit = asked == device.dynamic_shared.end() ? size_t{48} << 10 : asked->second;
    if (launch.dynamic_shared_bytes > limit) {
      return Runtime::Refuse(
          cudaErrorInvalidValue,
          fmt::format("kernel {}: {} bytes of dynamic shared memory; cudaFuncSetAttribute allowed "
                      "{}",
                      launch.kernel, launch.dynamic_shared_bytes, limit));
    }
    Launch placed = launch;
    placed.max_shared_bytes =
        asked == device.dynamic_shared.end() ? limit : device.max_shared_bytes();
    return runtime.Enqueue(stream, {.of_kernel = target->device,
                                    .run = [&runtime, placed, device_index = target->device,
                                            thread = std::move(thread)] {
                                      runtime.RunKernel(device_index, placed, thread);
                                    }});
  });
}

cudaError_t EnqueueWork(const char* name, cudaStream_t stream, std::function<void()> run,
                        std::function<bool()> ready) {
  return Call(name, CallKind::kOrdinary, [&](Runtime& runtime) {
    const Stream* const target = runtime.FindStream(stream);
    if (target == nullptr) return cudaErrorInvalidResourceHandle;
    const auto counted = [&runtime, name, device = target->device, run = std::move(run)] {
      runtime.running_device = device;
      ++runtime.statistics.kernels[name].launches;
      if (run != nullptr) run();
      runtime.running_device = -1;
    };
    return runtime.Enqueue(stream, {.run = counted, .ready = std::move(ready)});
  });
}

void ChangeWork(const std::function<void()>& change) {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  change();
  runtime.enqueued.notify_all();
}

void FailWork(cudaError_t error, std::string message) {
  Runtime& runtime = Runtime::Get();
  SLUICE_CHECK(runtime.running_device >= 0, "outside an operation");
  runtime.Fail(runtime.running_device, error, std::move(message));
}

bool IsOnDevice(const void* begin, size_t bytes, cudaStream_t handle) {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  const Stream* const stream = runtime.FindStream(handle);
  const MemoryBlock* const block = runtime.memory.Find(begin);
  return stream != nullptr && block != nullptr && block->device == stream->device &&
         bytes <= static_cast<size_t>(block->end() - static_cast<const std::byte*>(begin));
}

void SetDevices(std::vector<DeviceModel> devices) {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  runtime.SetDevices(std::move(devices));
}

void SetSeed(uint64_t seed) {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  runtime.queues.Seed(seed);
}

void HideFromHost(bool hide) {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  runtime.hide_from_host = hide;
  runtime.HideMemory();
}

void SetStallTimeout(absl::Duration timeout) {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  runtime.stall_timeout = timeout;
}

absl::Duration StallTimeout() {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  return runtime.stall_timeout;
}

void InjectFault(Fault fault) {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  runtime.faults.push_back(std::move(fault));
}

std::vector<Finding> TakeFindings() {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  return std::exchange(runtime.findings, {});
}

Statistics TakeStatistics() {
  Runtime& runtime = Runtime::Get();
  MutexLock lock(runtime.mutex);
  return std::exchange(runtime.statistics, {});
}

std::string LastRefusal() { return Runtime::thread().refusal; }

}  // namespace sluice::simt
