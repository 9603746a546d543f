// gRPC over one HTTP/2 connection: bytes in, calls, bytes out. It knows no socket.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "rpc/h2_limits.h"
#include "rpc/h2_stream.h"

namespace sluice::rpc {

// Where a session lives. Only OnThread and Post are called by other threads.
class H2Host {
 public:
  virtual ~H2Host() = default;
  [[nodiscard]] virtual EventBook* events() = 0;
  [[nodiscard]] virtual std::string peer() = 0;
  [[nodiscard]] virtual bool OnThread() = 0;
  virtual void Post(std::function<void()> work) = 0;
  // The session has something to say: Pull soon, but not from within this.
  virtual void MarkDirty() = 0;

  // Null: there is no such method.
  [[nodiscard]] virtual const H2Method* Find(const std::string& path) = 0;

  // A place among all streams of the server. False: there is none left.
  virtual bool EnterStream() = 0;
  virtual void LeaveStream() = 0;
};

// One thread only, that of the host.
class H2Session {
 public:
  H2Session(H2Host* host, const H2Limits& limits);
  // After Lost.
  ~H2Session();
  H2Session(const H2Session&) = delete;
  H2Session& operator=(const H2Session&) = delete;

  void Feed(std::string_view bytes);
  // Appends what is to be sent, up to about `max_bytes`. True: there is more.
  bool Pull(std::string& out, size_t max_bytes);
  // Tells calls what has happened; Pull does it too.
  void Settle();
  // Nothing is left to do but to send what was pulled, and to close.
  [[nodiscard]] bool over() const;
  [[nodiscard]] bool greeted() const { return greeted_; }  // the client has said its first words
  // The client has been sent away: it may still be sending.
  [[nodiscard]] bool terminated() const { return terminating_; }

  void Sweep(SteadyTime now);
  // No new streams; over, once the present ones are.
  void Drain();
  void CancelStreams();
  // The connection has gone: so have all streams.
  void Lost();

  [[nodiscard]] H2Host* host() const { return host_; }
  // Of a stream that is not closed.
  void Take(H2Stream& stream, H2Stream::Order order);
  // For nghttp2: what stream `id` has to say.
  ssize_t ReadAnswer(int32_t id, uint8_t* out, size_t size, uint32_t* flags);

 private:
  using StreamPtr = std::shared_ptr<H2Stream>;
  struct Callbacks;  // nghttp2's

  // What frames mean
  void BeginStream(int32_t id);
  void OnFrame(const nghttp2_frame& frame);
  void OnHeadersDone(H2Stream& stream);
  void OnData(H2Stream& stream, std::string_view bytes);
  void OnPing();
  void OnSent(const nghttp2_frame& frame);

  // Gives the call what has arrived for it.
  void Advance(H2Stream& stream);

  // Answers
  void SendHeaders(H2Stream& stream);
  void SendTrailers(H2Stream& stream);
  void SayGoodbye();
  // Without a call: the whole answer in one frame.
  void Refuse(H2Stream& stream, const absl::Status& status, std::string_view http_status = "200");
  // Ends a stream from this side, whatever it is doing.
  void Drop(H2Stream& stream, uint32_t error);
  void Close(H2Stream& stream);
  // The client has done what it may not: a last word, and the connection closes.
  void Terminate(uint32_t error, std::string_view reason);
  void Spend(int64_t cost);
  void SweepStream(H2Stream& stream, SteadyTime now);
  [[nodiscard]] H2Stream* Find(int32_t id) const;

  H2Host* const host_;
  const H2Limits limits_;
  struct Free {
    void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
  };
  std::unique_ptr<nghttp2_session, Free> session_;
  std::unordered_map<int32_t, StreamPtr> streams_;
  // What Settle is to tell: nothing of it is told from within nghttp2.
  std::vector<StreamPtr> closed_, written_, arrived_;

  bool greeted_ = false;
  bool draining_ = false, said_goodbye_ = false;
  bool terminating_ = false;       // the last word is with nghttp2
  bool broken_ = false;            // nghttp2 goes no further
  size_t body_bytes_ = 0;          // of messages that are not whole
  bool in_header_block_ = false;   // CONTINUATION is to follow, or has followed
  size_t header_block_bytes_ = 0;  // fed since it began
  FrameBudget budget_;
  SteadyTime last_received_, last_busy_;
  std::optional<SteadyTime> last_ping_;  // by the client, since something was sent to it
  int ping_strikes_ = 0;
  SteadyTime pinged_ = SteadyTime::max();  // by us, without an answer yet
  SteadyTime drain_began_ = SteadyTime::max();
};

}  // namespace sluice::rpc
