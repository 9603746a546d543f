// A connected socket, plain or TLS, without waiting: every call does what it can now and says what
// to wait for.
#pragma once

#include <cstddef>
#include <string_view>

#include "net/asio.h"
#include "net/tls.h"

namespace sluice {

enum class IoState : uint8_t { kDone, kWantRead, kWantWrite, kClosed };

struct IoResult {
  IoState state = IoState::kDone;
  size_t bytes = 0;  // with kDone; at least 1
};

// One thread only.
class Transport {
 public:
  // `ssl`: nullptr for plain.
  Transport(asio::ip::tcp::socket socket, SslPtr ssl)
      : socket_(std::move(socket)), ssl_(std::move(ssl)) {}

  IoResult Handshake();  // kDone at once for plain
  IoResult Read(char* data, size_t size);
  IoResult Write(std::string_view data);
  void ReleaseBuffers();  // TLS: until something is read or written
  // Says goodbye to the peer's reader (TLS: close_notify); reading goes on.
  void ShutdownWrite();
  void Close();
  // True if the peer has closed its side, even if unread bytes stand before that in the socket.
  [[nodiscard]] bool PeerHasClosed();

  // Whether ALPN has agreed on the protocol; plain: true.
  [[nodiscard]] bool Speaks(std::string_view protocol) const;
  [[nodiscard]] bool is_tls() const { return ssl_ != nullptr; }
  [[nodiscard]] asio::ip::tcp::socket& socket() { return socket_; }

 private:
  IoResult FromSsl(int result);

  asio::ip::tcp::socket socket_;
  SslPtr ssl_;
};

}  // namespace sluice
