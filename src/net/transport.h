// A connected socket, plain or TLS, without waiting: every call does what it can now and says what
// to wait for.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

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
      : socket_(std::move(socket)),
        ssl_(std::move(ssl)),
        sealed_(ssl_ == nullptr ? nullptr : std::make_unique<std::string>()) {}

  IoResult Handshake();  // kDone at once for plain
  IoResult Read(char* data, size_t size);
  // Sends bytes as they are: of TLS, those of sealed().
  IoResult Send(std::string_view bytes);

  // --- TLS, after the handshake. OpenSSL writes to a string, so that the caller may send it with
  // others' (SendBatch).
  // Appends `text` to sealed(). False: the connection can say no more.
  bool Seal(std::string_view text);
  // What is to be sent; the caller clears it. Reading may add to it.
  [[nodiscard]] std::string& sealed() { return *sealed_; }
  [[nodiscard]] const std::string& sealed() const { return *sealed_; }
  void SealGoodbye();     // close_notify
  void ReleaseBuffers();  // until something is read or written

  // The peer's reader comes to an end; reading goes on.
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
  std::unique_ptr<std::string> sealed_;  // null: plain. OpenSSL knows where it is
  bool releases_ = true;                 // OpenSSL keeps no empty buffers, as TlsContext has it
  size_t replies_ = 0;                   // bytes of it that reading has added
};

}  // namespace sluice
