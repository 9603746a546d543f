// Capture of graphs, and their launch.
#include <algorithm>
#include <memory>
#include <utility>

#include "kernels/simt/runtime_state.h"

namespace sluice::simt {
namespace {

cudaError_t BeginCapture(Runtime& runtime, cudaStream_t handle, cudaStreamCaptureMode mode) {
  Stream* const stream = runtime.FindStream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->legacy) {
    return Runtime::Refuse(cudaErrorStreamCaptureUnsupported,
                           "the default stream cannot capture a graph");
  }
  if (stream->capture != nullptr) {
    return Runtime::Refuse(cudaErrorIllegalState, "the stream captures a graph already");
  }
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  stream->last_nodes.clear();
  return cudaSuccess;
}

cudaError_t EndCapture(Runtime& runtime, cudaStream_t handle, cudaGraph_t* graph) {
  Stream* const stream = runtime.FindStream(handle);
  if (stream == nullptr || graph == nullptr) return cudaErrorInvalidResourceHandle;
  *graph = nullptr;
  if (stream->capture == nullptr) {
    return Runtime::Refuse(cudaErrorIllegalState, "the stream captures no graph");
  }
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture->origin != stream) {
    capture->invalid = true;
    return Runtime::Refuse(cudaErrorStreamCaptureUnmatched, "the capture began in another stream");
  }
  if (capture->mode != cudaStreamCaptureModeRelaxed &&
      capture->thread != std::this_thread::get_id()) {
    return Runtime::Refuse(cudaErrorStreamCaptureWrongThread,
                           "the capture began in another thread");
  }
  const std::vector<bool> joined = Ancestors(capture->graph, stream->last_nodes);
  for (const auto& other : runtime.queues.streams()) {
    if (other->capture == capture) other->capture.reset();
  }
  if (capture->invalid) {
    return Runtime::Refuse(cudaErrorStreamCaptureInvalidated,
                           "a call that must not be made has ended the capture");
  }
  if (std::ranges::count(joined, false) > 0) {
    return Runtime::Refuse(cudaErrorStreamCaptureUnjoined,
                           "work of another stream that the origin does not wait for");
  }
  auto* const made = new Graph(std::move(capture->graph));
  runtime.graphs.insert(made);
  *graph = reinterpret_cast<cudaGraph_t>(made);
  return cudaSuccess;
}

Graph* FindGraph(const Runtime& runtime, cudaGraph_t handle) {
  auto* const graph = reinterpret_cast<Graph*>(handle);
  return runtime.graphs.contains(graph) ? graph : nullptr;
}

cudaError_t Instantiate(const char* name, cudaGraphExec_t* program, cudaGraph_t handle) {
  return Call(name, CallKind::kOrdinary, [&](Runtime& runtime) {
    const Graph* const graph = FindGraph(runtime, handle);
    if (graph == nullptr || program == nullptr) return cudaErrorInvalidValue;
    auto made = MakeProgram(*graph);
    *program = reinterpret_cast<cudaGraphExec_t>(made.get());
    const void* const key = made.get();
    runtime.programs[key] = std::move(made);
    return cudaSuccess;
  });
}

}  // namespace
}  // namespace sluice::simt

using namespace sluice::simt;  // NOLINT(google-build-using-namespace): what follows is CUDA's

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return Call("cudaStreamBeginCapture", CallKind::kOrdinary,
              [&](Runtime& runtime) { return BeginCapture(runtime, stream, mode); });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return Call("cudaStreamEndCapture", CallKind::kOrdinary,
              [&](Runtime& runtime) { return EndCapture(runtime, stream, graph); });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return Call("cudaStreamIsCapturing", CallKind::kOrdinary, [&](Runtime& runtime) {
    const Stream* const stream = runtime.FindStream(handle);
    if (stream == nullptr || status == nullptr) return cudaErrorInvalidResourceHandle;
    if (stream->capture == nullptr) {
      *status = cudaStreamCaptureStatusNone;
    } else {
      *status = stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* program, cudaGraph_t graph, unsigned long long) {
  return Instantiate("cudaGraphInstantiate", program, graph);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* program, cudaGraph_t graph,
                                          unsigned long long) {
  return Instantiate("cudaGraphInstantiateWithFlags", program, graph);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t handle, cudaGraphNode_t* nodes, size_t* count) {
  return Call("cudaGraphGetNodes", CallKind::kOrdinary, [&](Runtime& runtime) {
    Graph* const graph = FindGraph(runtime, handle);
    if (graph == nullptr || count == nullptr) return cudaErrorInvalidValue;
    const size_t all = graph->nodes.size();
    if (nodes != nullptr) {
      *count = std::min(*count, all);
      for (size_t i = 0; i < *count; ++i) {
        nodes[i] = reinterpret_cast<cudaGraphNode_t>(&graph->nodes[i]);
      }
    } else {
      *count = all;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t program, cudaStream_t) {
  return Call("cudaGraphUpload", CallKind::kOrdinary, [&](Runtime& runtime) {
    return runtime.programs.contains(program) ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream) {
  return Call("cudaGraphLaunch", CallKind::kOrdinary, [&](Runtime& runtime) -> cudaError_t {
    const auto program = runtime.programs.find(handle);
    if (program == runtime.programs.end()) return cudaErrorInvalidValue;
    const Stream* const target = runtime.FindStream(stream);
    if (target != nullptr && target->capture != nullptr) {
      target->capture->invalid = true;
      return Runtime::Refuse(cudaErrorNotSupported, "a graph within a graph is not emulated");
    }
    ++runtime.statistics.graph_launches;
    return runtime.Enqueue(stream,
                           {.graph = std::make_shared<GraphRun>(GraphRun{program->second})});
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t handle) {
  return Call("cudaGraphDestroy", CallKind::kHarmless, [&](Runtime& runtime) {
    Graph* const graph = FindGraph(runtime, handle);
    if (graph == nullptr) return cudaErrorInvalidValue;
    runtime.graphs.erase(graph);
    delete graph;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle) {
  return Call("cudaGraphExecDestroy", CallKind::kHarmless, [&](Runtime& runtime) {
    return runtime.programs.erase(handle) == 1 ? cudaSuccess : cudaErrorInvalidValue;
  });
}
