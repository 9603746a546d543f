// Where one stream's events go: plain HTTP and TLS, streamed and whole answers stand behind it
// alike.
#pragma once

#include "sluice/types.h"

namespace sluice {

class SendBatch;

// I/O thread only. An EventQueue first pushes all events it holds, then flushes each sink that got
// some once.
class StreamSink {
 public:
  virtual ~StreamSink() = default;
  // Applies one event. No I/O. After an End nothing follows.
  virtual void Push(StreamEvent& event) = 0;
  // Writes what is pending, in one go, as far as the client takes it; into `batch`, if there is
  // one, which is run soon.
  virtual void Flush(SendBatch* batch) = 0;
  // Ends the generation from this side; its End still comes.
  virtual void Cancel() = 0;
};

}  // namespace sluice
