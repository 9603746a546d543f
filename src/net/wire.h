// One connection's bytes in and out. A coroutine owns the connection's life and waits here; the
// token path writes past it, straight to the socket.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/asio.h"
#include "net/transport.h"

namespace sluice {

class SendBatch;

using SteadyTime = std::chrono::steady_clock::time_point;
using SteadyDuration = std::chrono::steady_clock::duration;

// I/O thread only.
class Wire {
 public:
  // `max_input_bytes`: how far to read ahead of the coroutine.
  Wire(Transport transport, size_t max_input_bytes, SteadyDuration write_timeout)
      : transport_(std::move(transport)),
        max_input_bytes_(max_input_bytes),
        write_timeout_(write_timeout) {}

  // `owner` holds this Wire; pending waits keep it alive. `on_closed`: the peer has gone, called
  // once. `on_drained`: a client that had been slow has taken everything.
  void Attach(std::weak_ptr<void> owner, std::function<void()> on_closed,
              std::function<void()> on_drained);

  // --- Waiting, for one coroutine. Wakes may come without a cause: look again at what was waited
  // for.
  asio::awaitable<void> Wait();
  void Wake();

  // --- Input
  [[nodiscard]] std::string& input() { return input_; }
  // Reads what is there, and goes on reading when more comes. False: nothing new.
  bool PumpInput();
  // No more bytes will come: the peer has closed, or the connection is broken.
  [[nodiscard]] bool closed() const { return closed_; }
  void SetReadDeadline(SteadyTime deadline) {
    read_deadline_ = deadline;
    timed_out_ = false;
  }
  void ClearReadDeadline() { SetReadDeadline(SteadyTime::max()); }
  [[nodiscard]] bool timed_out() const { return timed_out_; }

  // --- Output
  void Append(std::string_view bytes) {
    if (!broken_) output_ += bytes;
  }
  // Sends now, or with the batch where that can be.
  void Flush(SendBatch* batch = nullptr);
  // For a batch: what to send, where to, and what came of it (bytes, or a negative errno).
  [[nodiscard]] std::string_view unsent() const {
    return std::string_view(outgoing()).substr(output_begin_);
  }
  [[nodiscard]] int fd() { return transport_.socket().native_handle(); }
  void Sent(int result);
  // The client is slow: what was appended has not all gone out.
  [[nodiscard]] bool blocked() const { return !output_.empty() || !unsent().empty(); }
  // Nothing can be written any more.
  [[nodiscard]] bool broken() const { return broken_; }

  // --- Life
  asio::awaitable<bool> Handshake();  // false: no TLS connection
  // After the handshake, whether both sides agreed on this protocol; of plain connections always.
  [[nodiscard]] bool speaks(std::string_view protocol) const { return transport_.Speaks(protocol); }
  // Lets the client read the last answer before the socket goes: `unread` says that bytes of it may
  // still come, which would turn closing into a reset.
  asio::awaitable<void> Close(bool unread);
  void Break();  // at once
  // Between requests: gives empty buffers back.
  void ReleaseMemory();
  // Ends what took too long. Called a few times a second.
  void Sweep(SteadyTime now);

 private:
  // The suspended coroutine. (asio::any_completion_handler of Boost 1.81 recurses without end when
  // it is posted.)
  struct Waiter {
    virtual ~Waiter() = default;
    virtual void Resume() = 0;
  };
  template <class Handler>
  struct WaiterOf;

  // What goes to the socket: the output itself, or as TLS has sealed it.
  [[nodiscard]] std::string& outgoing() {
    return transport_.is_tls() ? transport_.sealed() : output_;
  }
  [[nodiscard]] const std::string& outgoing() const {
    return transport_.is_tls() ? transport_.sealed() : output_;
  }
  bool SealMore();
  void Arm(IoState want);
  void OnReady();
  void PeerGone();
  void Fail();  // nothing can be written any more

  Transport transport_;
  const size_t max_input_bytes_;
  const SteadyDuration write_timeout_;
  std::weak_ptr<void> owner_;
  std::function<void()> on_closed_, on_drained_;

  std::unique_ptr<Waiter> waiter_;
  bool woken_ = false;

  std::string input_;
  bool read_armed_ = false;
  bool closed_ = false;
  bool timed_out_ = false;
  SteadyTime read_deadline_ = SteadyTime::max();

  std::string output_;
  size_t num_sealed_ = 0;    // of TLS: bytes of the output that are in outgoing(), or have gone
  size_t output_begin_ = 0;  // [output_begin_, size) of outgoing() is still to go
  bool write_armed_ = false;
  bool broken_ = false;
  SteadyTime write_deadline_ = SteadyTime::max();
};

}  // namespace sluice
