#include "kernels/simt/runtime_queue.h"

#include <algorithm>
#include <utility>

namespace sluice::simt {

void Queues::Seed(uint64_t seed) {
  seed_ = seed;
  random_ = Random(seed);
  eager_ = Choose(2) == 1;
  picks_of_order_ = 4U << (3 * Choose(4));
}

Stream& Queues::AddStream(int device, bool legacy, bool blocking) {
  auto stream = std::make_unique<Stream>();
  stream->device = device;
  stream->legacy = legacy;
  stream->blocking = blocking;
  stream->priority = Choose(1 << 16);
  return *streams_.emplace_back(std::move(stream));
}

void Queues::Push(Stream& stream, Operation operation) {
  if (stream.capture != nullptr) {
    std::vector<GraphNode>& nodes = stream.capture->graph.nodes;
    nodes.push_back({std::move(operation), stream.last_nodes});
    stream.last_nodes = {static_cast<uint32_t>(nodes.size() - 1)};
    return;
  }
  operation.order = ++order_;
  stream.queue.push_back(std::move(operation));
}

// The legacy default stream and the blocking ones of a device take turns, as they were enqueued.
bool Queues::WaitsForDefault(const Stream& stream) const {
  if (!stream.legacy && !stream.blocking) return false;
  const uint64_t order = stream.queue.front().order;
  return std::ranges::any_of(streams_, [&](const auto& other) {
    return other->device == stream.device && !other->queue.empty() &&
           (stream.legacy ? other->blocking : other->legacy) && other->queue.front().order < order;
  });
}

void Queues::CollectOfGraph(Stream& stream, GraphRun& graph) {
  GraphProgram& program = *graph.program;
  if (!graph.began) {
    if (program.running) return;
    graph.began = program.running = true;
    graph.num_left = program.nodes.size();
    graph.num_waited_for.resize(program.nodes.size());
    for (uint32_t i = 0; i < program.nodes.size(); ++i) {
      graph.num_waited_for[i] = static_cast<uint32_t>(program.nodes[i].after.size());
      if (graph.num_waited_for[i] == 0) graph.ready.push_back(i);
    }
  }
  for (size_t i = 0; i < graph.ready.size(); ++i) {
    const Operation& operation = program.nodes[graph.ready[i]].operation;
    if (operation.ready == nullptr || operation.ready()) ready_.push_back({&stream, i});
  }
}

void Queues::CollectReady() {
  ready_.clear();
  for (const auto& stream : streams_) {
    if (stream->queue.empty() || WaitsForDefault(*stream)) continue;
    const Operation& head = stream->queue.front();
    if (head.graph != nullptr && !head.graph->program->nodes.empty()) {
      CollectOfGraph(*stream, *head.graph);
    } else if (head.ready == nullptr || head.ready()) {
      ready_.push_back({stream.get(), 0});
    }
  }
}

// With seed 0 the oldest. Else by priorities that change now and then, for some seeds hardly ever:
// picks that are independent of each other would keep all streams about equally far, and miss what
// only a late one shows.
size_t Queues::Pick() {
  const auto before = [this](const Candidate& a, const Candidate& b) {
    if (seed_ == 0) return a.stream->queue.front().order < b.stream->queue.front().order;
    return a.stream->priority > b.stream->priority;
  };
  if (seed_ != 0 && random_.Below(picks_of_order_) == 0) {
    for (const auto& stream : streams_) stream->priority = random_.Below(1 << 16);
  }
  const auto best = std::ranges::min_element(ready_, before);
  auto last = best;  // of the same stream: a graph's nodes lie side by side
  while (last != ready_.end() && last->stream == best->stream) ++last;
  const auto of_stream = static_cast<uint32_t>(last - best);
  return static_cast<size_t>(best - ready_.begin()) + Choose(of_stream);
}

void Queues::Run(const Operation& operation) {
  if (operation.run != nullptr) {
    before_(operation);
    operation.run();
  }
  microseconds_ += 1;
  if (operation.milestone == nullptr) return;
  operation.milestone->microseconds = microseconds_;
  operation.milestone->reached = true;
}

void Queues::RunNode(Stream& stream, size_t ready) {
  const std::shared_ptr<GraphRun> graph = stream.queue.front().graph;
  const uint32_t node = graph->ready[ready];
  graph->ready.erase(graph->ready.begin() + static_cast<std::ptrdiff_t>(ready));
  Run(graph->program->nodes[node].operation);
  for (const uint32_t next : graph->program->next[node]) {
    if (--graph->num_waited_for[next] == 0) graph->ready.push_back(next);
  }
  if (--graph->num_left > 0) return;
  graph->program->running = false;
  // Empty if the node has failed its device.
  if (!stream.queue.empty() && stream.queue.front().graph == graph) stream.queue.pop_front();
}

bool Queues::Step() {
  CollectReady();
  if (ready_.empty()) return false;
  const Candidate next = ready_[Pick()];
  Stream& stream = *next.stream;
  const Operation& head = stream.queue.front();
  if (head.graph != nullptr && !head.graph->program->nodes.empty()) {
    RunNode(stream, next.ready);
  } else {
    const Operation operation = std::move(stream.queue.front());
    stream.queue.pop_front();
    Run(operation);
  }
  ForgetDestroyed();
  return true;
}

void Queues::ForgetDestroyed() {
  std::erase_if(streams_, [](const auto& s) { return s->destroyed && s->queue.empty(); });
}

void Queues::Drop(int device) {
  for (const auto& stream : streams_) {
    if (stream->device != device) continue;
    for (const Operation& operation : stream->queue) {
      if (operation.graph != nullptr && operation.graph->began) {
        operation.graph->program->running = false;
      }
      if (operation.milestone != nullptr) operation.milestone->reached = true;
    }
    stream->queue.clear();
  }
}

bool Queues::IsIdle(int device) const {
  return std::ranges::all_of(streams_, [device](const auto& stream) {
    return stream->device != device || stream->queue.empty();
  });
}

bool Queues::MayRead(const HostRange& range) const {
  const auto reads = [&range](const Operation& operation) {
    return operation.runs_host_code || operation.reads.Overlaps(range);
  };
  for (const auto& stream : streams_) {
    for (const Operation& operation : stream->queue) {
      if (reads(operation)) return true;
      if (operation.graph == nullptr) continue;
      for (const GraphNode& node : operation.graph->program->nodes) {
        if (reads(node.operation)) return true;
      }
    }
  }
  return false;
}

std::vector<bool> Ancestors(const Graph& graph, const std::vector<uint32_t>& nodes) {
  std::vector<bool> found(graph.nodes.size());
  for (const uint32_t node : nodes) found[node] = true;
  for (size_t i = graph.nodes.size(); i-- > 0;) {  // a node's `after` are older
    if (!found[i]) continue;
    for (const uint32_t before : graph.nodes[i].after) found[before] = true;
  }
  return found;
}

std::shared_ptr<GraphProgram> MakeProgram(const Graph& graph) {
  auto program = std::make_shared<GraphProgram>();
  program->nodes = graph.nodes;
  program->next.resize(graph.nodes.size());
  for (uint32_t i = 0; i < graph.nodes.size(); ++i) {
    for (const uint32_t before : graph.nodes[i].after) program->next[before].push_back(i);
  }
  return program;
}

}  // namespace sluice::simt
