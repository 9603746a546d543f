// A call for vectors or scores on its way through the engine: its inputs go into the scheduler a
// few at a time, and their vectors become the call's events.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "sluice/types.h"
#include "step/batch_plan.h"

namespace sluice {

struct PooledInput {
  std::vector<TokenId> tokens;
  int32_t second_begin = 0;  // as in Row
};

// What is to be made of the inputs' vectors.
struct PooledWork {
  std::vector<PooledInput> inputs;
  // Not empty: an event a pair, with the cosine of the vectors of two inputs, in place of an event
  // an input.
  std::vector<std::pair<int32_t, int32_t>> pairs;
  int32_t dimensions = 0;  // elements kept of each vector; 0: all
  bool normalise = false;  // to length 1, after the cut
  bool sigmoid = false;    // of each element: a cross-encoder's score

  [[nodiscard]] int64_t num_tokens() const;  // of all inputs
};

// Engine thread only.
class PooledCall {
 public:
  explicit PooledCall(PooledWork work)
      : work_(std::move(work)),
        num_backlog_tokens_(work_.num_tokens()),
        vectors_(work_.inputs.size()) {}

  // The input to compute next; nullptr: all are computed or being computed.
  [[nodiscard]] const PooledInput* next() const {
    return next_ < work_.inputs.size() ? &work_.inputs[next_] : nullptr;
  }
  // Of next() and what comes after it.
  [[nodiscard]] int64_t num_backlog_tokens() const { return num_backlog_tokens_; }
  [[nodiscard]] size_t num_live() const { return live_.size(); }
  [[nodiscard]] const std::map<SequenceId, size_t>& live() const { return live_; }
  [[nodiscard]] bool done() const { return next() == nullptr && live_.empty(); }

  // next() runs as this sequence; its tokens are not needed any more.
  void Started(SequenceId sequence);
  // The vector of a live sequence: the events that can now be told.
  std::vector<VectorEvent> Take(SequenceId sequence, std::vector<float> vector);

 private:
  void Finish(std::vector<float>& vector) const;

  PooledWork work_;
  size_t next_ = 0;
  int64_t num_backlog_tokens_;
  std::map<SequenceId, size_t> live_;        // to the index of its input
  std::vector<std::vector<float>> vectors_;  // with pairs: kept until the last event
};

}  // namespace sluice
