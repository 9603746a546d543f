// Streams, events and graphs of the emulated runtime: what is enqueued, what waits for what, and
// which operation runs next. Private to this folder; the runtime's lock protects all of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/simt/runner.h"

namespace sluice::simt {

struct HostRange {
  const std::byte* begin = nullptr;
  size_t bytes = 0;
  [[nodiscard]] bool Overlaps(const HostRange& other) const {
    return begin < other.begin + other.bytes && other.begin < begin + bytes;
  }
};

struct GraphRun;

// A place in a stream, for events.
struct Milestone {
  bool reached = false;
  double microseconds = 0;  // when
};

struct Operation {
  int of_kernel = -1;           // the device whose kernel it is: it sees that one's memory only
  std::function<void()> run;    // null: nothing to do
  std::function<bool()> ready;  // null: at once
  std::shared_ptr<Milestone> milestone;  // reached once it has run; or null
  HostRange reads;                       // host memory, as far as it is known
  bool runs_host_code = false;           // which may read anything
  std::shared_ptr<GraphRun> graph;       // a launched graph, in place of `run`
  uint64_t order = 0;                    // of enqueueing
};

struct GraphNode {
  Operation operation;
  std::vector<uint32_t> after;  // nodes
};
struct Graph {
  std::vector<GraphNode> nodes;
};

// An executable graph: it runs in one place at a time.
struct GraphProgram {
  std::vector<GraphNode> nodes;
  std::vector<std::vector<uint32_t>> next;  // by node: those after it
  bool running = false;
};

struct GraphRun {
  std::shared_ptr<GraphProgram> program;  // owners: this launch and the handle, if it still is
  bool began = false;
  std::vector<uint32_t> num_waited_for;  // by node
  std::vector<uint32_t> ready;           // nodes
  size_t num_left = 0;
};

struct Stream;

// From cudaStreamBeginCapture to cudaStreamEndCapture.
struct Capture {
  const Stream* origin = nullptr;
  int mode = 0;
  std::thread::id thread;
  Graph graph;
  bool invalid = false;
};

struct Stream {
  int device = 0;
  bool legacy = false;    // the device's default stream
  bool blocking = false;  // waits for the legacy stream and the other way round
  bool destroyed = false;
  std::deque<Operation> queue;
  uint32_t priority = 0;             // among what is ready; random
  std::shared_ptr<Capture> capture;  // owners: the streams that are in it; null: none
  std::vector<uint32_t> last_nodes;  // of the capture, which the next operation waits for
};

struct Event {
  int device = 0;
  bool timing = true;
  std::shared_ptr<Milestone> recorded;     // owners: event, its record and those who wait; or null
  std::shared_ptr<const Capture> capture;  // recorded in it; owners: as Stream's
  std::vector<uint32_t> nodes;             // of the capture
};

class Queues {
 public:
  // before(operation) is called before each that runs.
  explicit Queues(std::function<void(const Operation&)> before) : before_(std::move(before)) {}
  void Seed(uint64_t seed);
  [[nodiscard]] uint64_t seed() const { return seed_; }
  // Whether to run something at once that nobody waits for, as a card does. Some seeds never do.
  bool IsEager() { return eager_ && random_.Below(8) == 0; }
  // Below n; 0 with seed 0.
  uint32_t Choose(uint32_t n) { return seed_ == 0 ? 0 : random_.Below(n); }

  Stream& AddStream(int device, bool legacy, bool blocking);
  // At the end of a stream, or into the graph that it captures.
  void Push(Stream& stream, Operation operation);
  // Runs one operation of any stream. False: none can go on.
  bool Step();
  // What a failed device had to do is dropped: those who wait for it find it done.
  void Drop(int device);

  [[nodiscard]] bool IsIdle(int device) const;
  // Whether work that is enqueued may read the range.
  [[nodiscard]] bool MayRead(const HostRange& range) const;
  [[nodiscard]] const std::deque<std::unique_ptr<Stream>>& streams() const { return streams_; }

 private:
  struct Candidate {
    Stream* stream = nullptr;
    size_t ready = 0;  // of its graph
  };
  void CollectReady();
  void CollectOfGraph(Stream& stream, GraphRun& graph);
  [[nodiscard]] bool WaitsForDefault(const Stream& stream) const;
  size_t Pick();
  void Run(const Operation& operation);
  void RunNode(Stream& stream, size_t ready);
  void ForgetDestroyed();

  std::function<void(const Operation&)> before_;
  uint64_t seed_ = 0, order_ = 0;
  double microseconds_ = 0;
  Random random_{1};
  bool eager_ = false;
  uint32_t picks_of_order_ = 1;  // picks, on average, until streams change their priorities
  std::deque<std::unique_ptr<Stream>> streams_;
  std::vector<Candidate> ready_;
};

// Where the nodes of one list lead to, themselves included.
std::vector<bool> Ancestors(const Graph& graph, const std::vector<uint32_t>& nodes);
std::shared_ptr<GraphProgram> MakeProgram(const Graph& graph);

}  // namespace sluice::simt
