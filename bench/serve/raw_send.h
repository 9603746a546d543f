// The floor of every server on this machine: sends prepared bytes and does nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace sluice::load {

struct RawSendOptions {
  uint16_t port = 0;              // 0: any that is free
  double step_ms = 10;            // every stream gets a chunk a step
  double first_ms = 0;            // of the first chunk, after the request
  double first_spread_ms = 0;     // request k waits first_ms + (k mod 100) / 99 of this
  int64_t chunk_bytes = 282;      // a chunk on the wire, its HTTP framing included
  std::string tls_cert, tls_key;  // both or none
};

// Serves streams of chat completions on 127.0.0.1 until `stopped`: each answer has a chunk for
// every `stream_interval` of its `max_tokens` tokens that one send() puts on the wire, so many
// steps after the one before. GET /livez is answered, and "Connection: close" of a GET kept to.
// `ready` is told the port. Blocks, on one thread. Errors: InvalidArgument for a chunk that is too
// small or a certificate that cannot be read; Unavailable if the port is taken.
absl::Status ServeRawSend(const RawSendOptions& options, const std::function<void(uint16_t)>& ready,
                          const std::function<bool()>& stopped);

}  // namespace sluice::load
