// Streams, events and host functions.
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "kernels/simt/runtime_state.h"

namespace sluice::simt {
namespace {

cudaError_t CreateStream(const char* name, cudaStream_t* stream, unsigned flags) {
  return Call(name, CallKind::kOrdinary, [&](Runtime& runtime) {
    if (stream == nullptr || (flags & ~unsigned{cudaStreamNonBlocking}) != 0) {
      return cudaErrorInvalidValue;
    }
    const bool blocking = (flags & cudaStreamNonBlocking) == 0;
    Stream& made = runtime.queues.AddStream(Runtime::thread().device, false, blocking);
    *stream = reinterpret_cast<cudaStream_t>(&made);
    return cudaSuccess;
  });
}

Event* FindEvent(const Runtime& runtime, cudaEvent_t handle) {
  auto* const event = reinterpret_cast<Event*>(handle);
  return runtime.events.contains(event) ? event : nullptr;
}

cudaError_t CreateEvent(const char* name, cudaEvent_t* event, unsigned flags) {
  return Call(name, CallKind::kOrdinary, [&](Runtime& runtime) {
    if (event == nullptr) return cudaErrorInvalidValue;
    auto* const made = new Event{.device = Runtime::thread().device,
                                 .timing = (flags & cudaEventDisableTiming) == 0};
    runtime.events.insert(made);
    *event = reinterpret_cast<cudaEvent_t>(made);
    return cudaSuccess;
  });
}

cudaError_t RefuseCapturing(Stream& stream, const char* call) {
  stream.capture->invalid = true;
  return Runtime::Refuse(cudaErrorStreamCaptureUnsupported,
                         fmt::format("{} on a stream that captures a graph", call));
}

// The work in `stream` from here on waits for the event's place in the same capture.
cudaError_t JoinCapture(Stream& stream, const Event& event) {
  if (stream.capture != nullptr && stream.capture != event.capture) {
    return Runtime::Refuse(cudaErrorStreamCaptureMerge,
                           "the event was recorded in another capture");
  }
  if (stream.capture == nullptr) {
    if (stream.legacy) return cudaErrorStreamCaptureImplicit;
    stream.capture = std::const_pointer_cast<Capture>(event.capture);
    stream.last_nodes.clear();
  }
  std::vector<uint32_t>& last = stream.last_nodes;
  last.insert(last.end(), event.nodes.begin(), event.nodes.end());
  return cudaSuccess;
}

cudaError_t Wait(Runtime& runtime, cudaStream_t handle, cudaEvent_t event_handle) {
  Stream* const stream = runtime.FindStream(handle);
  const Event* const event = FindEvent(runtime, event_handle);
  if (stream == nullptr || event == nullptr) return cudaErrorInvalidResourceHandle;
  if (event->capture != nullptr) return JoinCapture(*stream, *event);
  if (event->recorded == nullptr) return cudaSuccess;
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return Runtime::Refuse(cudaErrorStreamCaptureIsolation,
                           "a graph cannot wait for an event that was recorded outside it");
  }
  return runtime.Enqueue(handle,
                         {.ready = [milestone = event->recorded] { return milestone->reached; }});
}

// A poll lets work go on: who only polls would wait for ever else.
void LetGoOn(Runtime& runtime) {
  for (uint32_t steps = runtime.queues.Choose(3) + 1; steps > 0 && runtime.Step(); --steps) {
  }
}

}  // namespace
}  // namespace sluice::simt

using namespace sluice::simt;  // NOLINT(google-build-using-namespace): what follows is CUDA's

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return CreateStream("cudaStreamCreate", stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return CreateStream("cudaStreamCreateWithFlags", stream, flags);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return CreateStream("cudaStreamCreateWithPriority", stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return Call("cudaDeviceGetStreamPriorityRange", CallKind::kOrdinary, [&](Runtime&) {
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = -5;
    return cudaSuccess;
  });
}

// What is enqueued still runs.
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return Call("cudaStreamDestroy", CallKind::kHarmless, [&](Runtime& runtime) {
    Stream* const stream = runtime.FindStream(handle);
    if (stream == nullptr || stream->legacy) return cudaErrorInvalidResourceHandle;
    if (stream->capture != nullptr) stream->capture->invalid = true;
    stream->capture.reset();
    stream->destroyed = true;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return Call("cudaStreamSynchronize", CallKind::kOrdinary, [&](Runtime& runtime) {
    Stream* const stream = runtime.FindStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (stream->capture != nullptr) return RefuseCapturing(*stream, "cudaStreamSynchronize");
    return runtime.RunUntil(stream->device, [stream] { return stream->queue.empty(); });
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return Call("cudaStreamQuery", CallKind::kOrdinary, [&](Runtime& runtime) {
    Stream* const stream = runtime.FindStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (stream->capture != nullptr) return RefuseCapturing(*stream, "cudaStreamQuery");
    LetGoOn(runtime);
    const Device& device = runtime.devices[static_cast<size_t>(stream->device)];
    if (device.failed != cudaSuccess) return Runtime::Refuse(device.failed, device.failure);
    return stream->queue.empty() ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return Call("cudaStreamWaitEvent", CallKind::kOrdinary,
              [&](Runtime& runtime) { return Wait(runtime, stream, event); });
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  return Call("cudaStreamGetDevice", CallKind::kOrdinary, [&](Runtime& runtime) {
    const Stream* const stream = runtime.FindStream(handle);
    if (stream == nullptr || device == nullptr) return cudaErrorInvalidResourceHandle;
    *device = stream->device;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return Call("cudaDeviceSynchronize", CallKind::kNotInCapture, [&](Runtime& runtime) {
    const int device = Runtime::thread().device;
    return runtime.RunUntil(device, [&] { return runtime.queues.IsIdle(device); });
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return Call("cudaLaunchHostFunc", CallKind::kOrdinary, [&](Runtime& runtime) -> cudaError_t {
    if (function == nullptr) return cudaErrorInvalidValue;
    Operation operation{.run =
                            [function, data] {
                              Runtime::thread().in_host_function = true;
                              function(data);
                              Runtime::thread().in_host_function = false;
                            },
                        .runs_host_code = true};
    return runtime.Enqueue(stream, std::move(operation));
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return CreateEvent("cudaEventCreate", event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return CreateEvent("cudaEventCreateWithFlags", event, flags);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  return Call("cudaEventDestroy", CallKind::kHarmless, [&](Runtime& runtime) {
    Event* const event = FindEvent(runtime, handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    runtime.events.erase(event);
    delete event;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  return Call("cudaEventRecord", CallKind::kOrdinary, [&](Runtime& runtime) -> cudaError_t {
    Event* const event = FindEvent(runtime, handle);
    const Stream* const stream = runtime.FindStream(stream_handle);
    if (event == nullptr || stream == nullptr || event->device != stream->device) {
      return Runtime::Refuse(cudaErrorInvalidResourceHandle,
                             "no such event or stream, or not of one device");
    }
    event->capture = stream->capture;
    event->nodes = stream->last_nodes;
    if (stream->capture != nullptr) return cudaSuccess;
    event->recorded = std::make_shared<Milestone>();
    return runtime.Enqueue(stream_handle, {.milestone = event->recorded});
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return Call("cudaEventSynchronize", CallKind::kOrdinary, [&](Runtime& runtime) -> cudaError_t {
    const Event* const event = FindEvent(runtime, handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    if (event->capture != nullptr) return cudaErrorCapturedEvent;
    if (event->recorded == nullptr) return cudaSuccess;
    return runtime.RunUntil(event->device,
                            [milestone = event->recorded] { return milestone->reached; });
  });
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return Call("cudaEventQuery", CallKind::kOrdinary, [&](Runtime& runtime) -> cudaError_t {
    const Event* const event = FindEvent(runtime, handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    if (event->capture != nullptr) return cudaErrorCapturedEvent;
    if (event->recorded == nullptr) return cudaSuccess;
    LetGoOn(runtime);
    const Device& device = runtime.devices[static_cast<size_t>(event->device)];
    if (device.failed != cudaSuccess) return Runtime::Refuse(device.failed, device.failure);
    return event->recorded->reached ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  return Call("cudaEventElapsedTime", CallKind::kOrdinary, [&](Runtime& runtime) -> cudaError_t {
    const Event* const first = FindEvent(runtime, begin);
    const Event* const second = FindEvent(runtime, end);
    if (milliseconds == nullptr || first == nullptr || second == nullptr || !first->timing ||
        !second->timing || first->recorded == nullptr || second->recorded == nullptr) {
      return Runtime::Refuse(cudaErrorInvalidResourceHandle,
                             "an event that was never recorded, or without timing");
    }
    if (!first->recorded->reached || !second->recorded->reached) return cudaErrorNotReady;
    *milliseconds =
        static_cast<float>((second->recorded->microseconds - first->recorded->microseconds) / 1000);
    return cudaSuccess;
  });
}
