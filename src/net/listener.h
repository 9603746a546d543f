// A listening socket and the loop that takes connections off it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "net/asio.h"

namespace sluice {

// One thread only, that of `io`, except Open.
class Listener {
 public:
  // Gets each accepted, non-blocking socket; owns it from then on.
  using OnAccept = std::function<void(int fd)>;

  // Errors: InvalidArgument (host does not resolve), Unavailable (address in use, no permission).
  static absl::StatusOr<std::unique_ptr<Listener>> Open(asio::io_context* io,
                                                        const std::string& host, int port,
                                                        OnAccept on_accept);
  void Start() { Accept(); }
  void Close();
  [[nodiscard]] int port() const { return port_; }

 private:
  Listener(asio::io_context* io, OnAccept on_accept)
      : acceptor_(*io), pause_(*io), on_accept_(std::move(on_accept)) {}
  void Accept();
  void AcceptAll();
  void Pause();

  asio::ip::tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  OnAccept on_accept_;
  int port_ = 0;
};

}  // namespace sluice
