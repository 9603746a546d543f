// What carries gRPC calls: grpc++'s server, or the one over nghttp2.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice::rpc {

// Serves from its creation on. Thread-safe, but for Shutdown, which one thread calls.
class CallTransport {
 public:
  virtual ~CallTransport() = default;
  [[nodiscard]] virtual int port() const = 0;
  // Reads the certificate files again; without TLS nothing happens. On error the old ones stay.
  virtual absl::Status ReloadCertificates() = 0;
  // Refuses new connections and calls, waits for open calls, cancels those left at `deadline`, and
  // waits for their Ends from the Service, for at most kEndsTimeout more. Idempotent.
  virtual void Shutdown(absl::Time deadline) = 0;
};

// A wedged engine must not keep the process from ending. It may still publish later, so the queue
// that it publishes to must then stay.
inline constexpr absl::Duration kEndsTimeout = absl::Seconds(5);

}  // namespace sluice::rpc
