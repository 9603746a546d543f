// The HTTP/1.1 server: OpenAI's API, health and metrics, on plain sockets or TLS.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/api_keys.h"
#include "base/clock.h"
#include "base/stage_watch.h"
#include "metrics/metrics.h"
#include "sluice/config.h"
#include "sluice/service.h"

namespace sluice {

class HttpServer {
 public:
  // Listens and serves from here on. The pointers must outlive the server. With `stages` the I/O
  // threads are entered there.
  // Errors: InvalidArgument (certificates, host), Unavailable (address in use).
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Config& config, Service* service,
                                                           ApiKeys* keys, Metrics* metrics,
                                                           const Clock* clock,
                                                           StageWatch* stages = nullptr);
  ~HttpServer();  // shuts down

  // The ports listened on, where the config says 0: those the system chose. -1: no admin port.
  [[nodiscard]] int port() const;
  [[nodiscard]] int admin_port() const;

  // Reads the certificates again for connections to come; a file that cannot be used is logged and
  // changes nothing. Thread-safe.
  void ReloadTls();

  // The owner's thread only, as is the destructor.
  // No new connections on the public port; those that are there go on, but end after their present
  // request.
  void StopAccepting();
  // Cancels what still runs, gives clients a second to take what was written, closes everything and
  // joins the threads. Idempotent.
  void Shutdown();

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
