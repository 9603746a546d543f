#include "net/wire.h"

#include <array>
#include <cerrno>
#include <utility>

#include "net/send_batch.h"

namespace sluice {
namespace {

constexpr size_t kReadBytes = 16 << 10;
// Of an answer sealed at once: what a slow client has not taken is kept twice no further.
constexpr size_t kMaxSealed = 256U << 10U;
constexpr auto kLinger = std::chrono::seconds(2);

}  // namespace

template <class Handler>
struct Wire::WaiterOf final : Wire::Waiter {
  explicit WaiterOf(Handler h) : handler(std::move(h)) {}
  void Resume() override {
    Handler resumed(std::move(handler));
    resumed();
  }
  Handler handler;
};

void Wire::Attach(std::weak_ptr<void> owner, std::function<void()> on_closed,
                  std::function<void()> on_drained) {
  owner_ = std::move(owner);
  on_closed_ = std::move(on_closed);
  on_drained_ = std::move(on_drained);
}

asio::awaitable<void> Wire::Wait() {
  if (!woken_) {
    const auto initiate = [this](auto handler) {
      waiter_ = std::make_unique<WaiterOf<decltype(handler)>>(std::move(handler));
    };
    co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(initiate,
                                                                         asio::use_awaitable);
  }
  woken_ = false;
}

void Wire::Wake() {
  if (woken_) return;
  woken_ = true;
  // Posted, so that whoever wakes (a sweep over all connections, a drain of events) is not resumed
  // into.
  if (waiter_ == nullptr) return;
  asio::post(transport_.socket().get_executor(), [this, keep = owner_.lock()] {
    const std::unique_ptr<Waiter> waiter = std::move(waiter_);
    waiter->Resume();
  });
}

bool Wire::PumpInput() {
  // One buffer a thread, so that an idle connection holds none.
  static thread_local std::array<char, kReadBytes> buffer;
  const bool quiet = unsent().empty();
  bool any = false;
  while (!closed_ && input_.size() < max_input_bytes_) {
    const IoResult result = transport_.Read(buffer.data(), buffer.size());
    input_.append(buffer.data(), result.bytes);
    if (result.state == IoState::kDone) {
      any = true;
      // A socket that gave less than there was room for has no more; what comes wakes us.
      if (transport_.is_tls() || result.bytes == buffer.size()) continue;
      Arm(IoState::kWantRead);
    } else if (result.state == IoState::kClosed) {
      PeerGone();
    } else {
      Arm(result.state);
    }
    break;
  }
  if (quiet && !unsent().empty()) Flush();  // OpenSSL has replied
  return any || closed_;
}

void Wire::Flush(SendBatch* batch) {
  while (!broken_ && (!unsent().empty() || SealMore())) {
    if (batch != nullptr && !write_armed_) return batch->Add(this);
    const IoResult result = transport_.Send(unsent());
    if (result.state == IoState::kDone) {
      output_begin_ += result.bytes;
      write_deadline_ = SteadyTime::max();
    } else if (result.state == IoState::kClosed) {
      Fail();
    } else {
      if (write_deadline_ == SteadyTime::max())
        write_deadline_ = std::chrono::steady_clock::now() + write_timeout_;
      Arm(result.state);
      return;
    }
  }
  output_.clear();
  num_sealed_ = 0;
  outgoing().clear();
  output_begin_ = 0;
  write_deadline_ = SteadyTime::max();
}

// False: there is nothing more to seal, or it cannot be.
bool Wire::SealMore() {
  if (!transport_.is_tls() || num_sealed_ == output_.size()) return false;
  outgoing().clear();
  output_begin_ = 0;
  const std::string_view piece = std::string_view(output_).substr(num_sealed_, kMaxSealed);
  num_sealed_ += piece.size();
  if (!transport_.Seal(piece)) Fail();
  if (num_sealed_ == output_.size()) {
    output_.clear();
    num_sealed_ = 0;
  }
  return !broken_;
}

void Wire::Fail() {
  broken_ = true;
  PeerGone();
}

void Wire::Sent(int result) {
  if (result > 0) {
    output_begin_ += static_cast<size_t>(result);
  } else if (result != -EAGAIN && result != -EINTR && !broken_) {
    Fail();
  }
  Flush();  // the rest, or to wait until the client takes more
}

void Wire::ReleaseMemory() {
  if (transport_.is_tls()) transport_.ReleaseBuffers();
  if (input_.empty()) input_ = std::string();
  if (output_.empty()) output_ = std::string();
}

void Wire::Arm(IoState want) {
  bool& armed = want == IoState::kWantRead ? read_armed_ : write_armed_;
  if (armed || broken_) return;
  armed = true;
  const auto type =
      want == IoState::kWantRead ? asio::socket_base::wait_read : asio::socket_base::wait_write;
  transport_.socket().async_wait(
      type, [this, &armed, keep = owner_.lock()](const boost::system::error_code& error) {
        armed = false;
        if (!error) OnReady();
      });
}

// Either direction may have waited for either readiness (TLS), so both get their turn.
void Wire::OnReady() {
  if (PumpInput()) Wake();
  if (!blocked()) return;
  Flush();
  if (!blocked() && on_drained_) on_drained_();
  if (!blocked()) Wake();
}

void Wire::PeerGone() {
  if (closed_) return;
  closed_ = true;
  Wake();
  if (on_closed_) on_closed_();
}

void Wire::Break() {
  broken_ = true;
  output_.clear();
  num_sealed_ = 0;
  outgoing().clear();
  output_begin_ = 0;
  PeerGone();
  Wake();
  transport_.Close();
}

void Wire::Sweep(SteadyTime now) {
  if (broken_) return;
  if (now >= write_deadline_) {
    Break();
    return;
  }
  if (now >= read_deadline_) {
    read_deadline_ = SteadyTime::max();
    timed_out_ = true;
    Wake();
  }
  // With a full read-ahead buffer nobody reads, and a close behind unread bytes would not be seen.
  if (!closed_ && input_.size() >= max_input_bytes_ && transport_.PeerHasClosed()) PeerGone();
}

asio::awaitable<bool> Wire::Handshake() {
  for (;;) {
    const IoResult result = transport_.Handshake();
    if (result.state == IoState::kDone) co_return true;
    if (result.state == IoState::kClosed || timed_out_ || broken_) co_return false;
    auto& socket = transport_.socket();
    const auto type = result.state == IoState::kWantRead ? asio::socket_base::wait_read
                                                         : asio::socket_base::wait_write;
    socket.async_wait(
        type, [this, keep = owner_.lock()](const boost::system::error_code& /*error*/) { Wake(); });
    co_await Wait();
    if (timed_out_) co_return false;
  }
}

asio::awaitable<void> Wire::Close(bool unread) {
  if (!broken_ && transport_.is_tls()) {
    transport_.SealGoodbye();
    Flush();
  }
  // Closing says the same to who reads to the end of a plain connection.
  if (!broken_ && (unread || transport_.is_tls())) transport_.ShutdownWrite();
  if (unread) SetReadDeadline(std::chrono::steady_clock::now() + kLinger);
  while (unread && !closed_ && !timed_out_) {
    input_.clear();
    if (PumpInput()) continue;
    co_await Wait();
  }
  broken_ = true;
  closed_ = true;
  transport_.Close();
}

}  // namespace sluice
