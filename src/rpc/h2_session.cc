#include "rpc/h2_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/time/clock.h"
#include "rpc/h2_wire.h"

namespace sluice::rpc {
namespace {

constexpr uint32_t kStreamWindow = 256U << 10U;
constexpr int32_t kConnectionWindow = 1 << 20;
constexpr int kMaxPingStrikes = 2;
// Bytes of one header block beyond which nobody goes on decoding. Twice what one read brings stands
// for what comes before and after it.
constexpr size_t kHeaderBlockSlack = 128U << 10U;
// Frames that wait, besides streams' data, for a client that takes nothing.
constexpr size_t kMaxQueuedFrames = 20'000;
}  // namespace

struct H2Session::Callbacks {
  static H2Session& Self(void* self) { return *static_cast<H2Session*>(self); }

  static int OnBeginHeaders(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) Self(self).BeginStream(frame->hd.stream_id);
    return 0;
  }
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t,
                      void* self) {
    H2Stream* const stream = Self(self).Find(frame->hd.stream_id);
    if (stream != nullptr && stream->phase_ == H2Stream::Phase::kHeaders)
      stream->TakeHeader(View(name, name_size), View(value, value_size),
                         Self(self).limits_.max_header_bytes);
    return 0;
  }
  static int OnBeginFrame(nghttp2_session*, const nghttp2_frame_hd* head, void* self) {
    if (head->type != NGHTTP2_CONTINUATION) {
      Self(self).in_header_block_ =
          head->type == NGHTTP2_HEADERS && (head->flags & NGHTTP2_FLAG_END_HEADERS) == 0;
      Self(self).header_block_bytes_ = 0;
    }
    switch (head->type) {
      case NGHTTP2_DATA:
        if (head->length == 0 && (head->flags & NGHTTP2_FLAG_END_STREAM) == 0)
          Self(self).Spend(FrameBudget::kOther);
        break;
      case NGHTTP2_HEADERS:
        break;
      case NGHTTP2_RST_STREAM:
        Self(self).Spend(FrameBudget::kReset);
        break;
      case NGHTTP2_SETTINGS:
        Self(self).Spend(FrameBudget::kSettings);
        break;
      case NGHTTP2_PING:
        Self(self).Spend(FrameBudget::kPing);
        break;
      case NGHTTP2_WINDOW_UPDATE:
        Self(self).Spend(FrameBudget::kWindow);
        break;
      default:
        Self(self).Spend(FrameBudget::kOther);
    }
    return 0;
  }
  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    Self(self).OnFrame(*frame);
    return 0;
  }
  static int OnInvalidFrame(nghttp2_session*, const nghttp2_frame*, int, void* self) {
    Self(self).Spend(FrameBudget::kSettings);
    return 0;
  }
  static int OnData(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data, size_t size,
                    void* self) {
    nghttp2_session_consume_connection(session, size);
    if (H2Stream* const stream = Self(self).Find(id)) Self(self).OnData(*stream, View(data, size));
    return 0;
  }
  static int OnStreamClose(nghttp2_session*, int32_t id, uint32_t, void* self) {
    const auto found = Self(self).streams_.find(id);
    if (found == Self(self).streams_.end()) return 0;
    Self(self).closed_.push_back(std::move(found->second));
    Self(self).streams_.erase(found);
    return 0;
  }
  static int OnSent(nghttp2_session*, const nghttp2_frame* frame, void* self) {
    Self(self).OnSent(*frame);
    return 0;
  }
  Callbacks() {
    nghttp2_session_callbacks_new(&all);
    nghttp2_session_callbacks_set_on_begin_headers_callback(all, OnBeginHeaders);
    nghttp2_session_callbacks_set_on_header_callback(all, OnHeader);
    nghttp2_session_callbacks_set_on_begin_frame_callback(all, OnBeginFrame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(all, OnFrame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(all, OnInvalidFrame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(all, OnData);
    nghttp2_session_callbacks_set_on_stream_close_callback(all, OnStreamClose);
    nghttp2_session_callbacks_set_on_frame_send_callback(all, OnSent);
    nghttp2_option_new(&options);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);  // they only serve priorities
    // "authorization: Bearer " is refused for what it says, not for its blank.
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(options, 1);
  }
  nghttp2_session_callbacks* all = nullptr;
  nghttp2_option* options = nullptr;
};

H2Session::H2Session(H2Host* host, const H2Limits& limits)
    : host_(host),
      limits_(limits),
      last_received_(std::chrono::steady_clock::now()),
      last_busy_(last_received_) {
  static const Callbacks callbacks;  // for all sessions, until the process ends
  nghttp2_session* session = nullptr;
  nghttp2_session_server_new2(&session, callbacks.all, this, callbacks.options);
  session_.reset(session);
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.max_streams},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(limits.max_header_bytes)},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1}};
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

H2Session::~H2Session() { session_.reset(); }  // while the callbacks' fields are there

H2Stream* H2Session::Find(int32_t id) const {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : found->second.get();
}

void H2Session::Feed(std::string_view bytes) {
  if (terminating_ || broken_) return;
  last_received_ = std::chrono::steady_clock::now();
  pinged_ = SteadyTime::max();
  if (nghttp2_session_mem_recv(session_.get(), reinterpret_cast<const uint8_t*>(bytes.data()),
                               bytes.size()) < 0) {
    broken_ = true;
  }
  if (in_header_block_) header_block_bytes_ += bytes.size();
  if (header_block_bytes_ > limits_.max_header_bytes + kHeaderBlockSlack)
    Terminate(NGHTTP2_ENHANCE_YOUR_CALM, "the header block is too long");
  if (nghttp2_session_get_outbound_queue_size(session_.get()) > kMaxQueuedFrames) broken_ = true;
}

bool H2Session::Pull(std::string& out, size_t max_bytes) {
  for (;;) {
    Settle();
    if (broken_) return false;
    while (out.size() < max_bytes) {
      const uint8_t* bytes = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_.get(), &bytes);
      if (size < 0) broken_ = true;
      if (size <= 0) break;
      out.append(View(bytes, static_cast<size_t>(size)));
    }
    const bool full = out.size() >= max_bytes;
    if (!full && closed_.empty() && written_.empty() && arrived_.empty()) return false;
    if (full) {
      Settle();
      return true;
    }
  }
}

bool H2Session::over() const {
  return broken_ || (nghttp2_session_want_read(session_.get()) == 0 &&
                     nghttp2_session_want_write(session_.get()) == 0);
}

void H2Session::Settle() {
  while (!closed_.empty() || !written_.empty() || !arrived_.empty()) {
    for (const StreamPtr& stream : std::exchange(closed_, {})) Close(*stream);
    for (const StreamPtr& stream : std::exchange(written_, {})) {
      if (stream->phase_ != H2Stream::Phase::kRunning) continue;
      stream->writing_.store(false);
      stream->call_->OnWriteDone(true);
    }
    for (const StreamPtr& stream : std::exchange(arrived_, {})) Advance(*stream);
  }
}

void H2Session::BeginStream(int32_t id) {
  if (terminating_ || draining_ || !host_->EnterStream()) {
    nghttp2_submit_rst_stream(session_.get(), NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    return;
  }
  streams_.emplace(id, std::make_shared<H2Stream>(this, id, last_received_));
}

void H2Session::OnFrame(const nghttp2_frame& frame) {
  const nghttp2_frame_hd& head = frame.hd;
  if (head.type == NGHTTP2_SETTINGS) greeted_ = true;
  if (head.type == NGHTTP2_PING && (head.flags & NGHTTP2_FLAG_ACK) == 0) OnPing();
  if (head.type != NGHTTP2_HEADERS && head.type != NGHTTP2_DATA) return;
  H2Stream* const stream = Find(head.stream_id);
  if (stream == nullptr || terminating_) return;
  if ((head.flags & NGHTTP2_FLAG_END_STREAM) != 0) stream->half_closed_ = true;
  if (stream->phase_ == H2Stream::Phase::kHeaders) OnHeadersDone(*stream);
  if (stream->half_closed_) arrived_.push_back(stream->shared_from_this());
}

void H2Session::OnHeadersDone(H2Stream& stream) {
  stream.phase_ = H2Stream::Phase::kBody;
  if (stream.header_bytes_ > limits_.max_header_bytes) {
    return Refuse(stream, absl::ResourceExhaustedError(
                              fmt::format("the request's metadata has {} bytes; the limit is {}",
                                          stream.header_bytes_, limits_.max_header_bytes)));
  }
  if (stream.method_ != "POST")
    return Refuse(stream, absl::InvalidArgumentError("gRPC's method is POST"), "405");
  if (!IsGrpcContentType(stream.content_type_)) {
    return Refuse(stream, absl::InvalidArgumentError("the content-type is not application/grpc"),
                  "415");
  }
  stream.called_ = host_->Find(stream.path_);
  if (stream.called_ == nullptr)
    return Refuse(stream, absl::UnimplementedError("the server has no such method"));
  if (!stream.encoding_.empty() && stream.encoding_ != "identity") {
    return Refuse(stream,
                  absl::UnimplementedError("compressed messages are not supported; send identity"));
  }
  if (stream.timeout_.empty()) return;
  const std::optional<absl::Duration> timeout = ParseGrpcTimeout(stream.timeout_);
  if (!timeout) return Refuse(stream, absl::InvalidArgumentError("grpc-timeout is malformed"));
  stream.deadline_ = absl::Now() + *timeout;
}

void H2Session::OnData(H2Stream& stream, std::string_view bytes) {
  // The window of a stream that is to say no more, or nothing now, stays as it is: the client comes
  // to a halt.
  const bool streams = stream.called_ != nullptr && stream.called_->many_requests;
  const bool awaited = stream.phase_ == H2Stream::Phase::kBody ||
                       (stream.phase_ == H2Stream::Phase::kRunning && streams);
  if (!awaited || terminating_) return;
  stream.body_ += bytes;
  stream.unread_ += bytes.size();
  body_bytes_ += bytes.size();
  if (body_bytes_ > 2 * limits_.max_message_bytes + kConnectionWindow) {
    return Refuse(stream, absl::ResourceExhaustedError(
                              "too many bytes of unfinished messages on one connection"));
  }
  arrived_.push_back(stream.shared_from_this());
}

void H2Session::Advance(H2Stream& stream) {
  using Phase = H2Stream::Phase;
  if (stream.phase_ != Phase::kBody && stream.phase_ != Phase::kRunning) return;
  const bool started = stream.phase_ == Phase::kRunning;
  if (!stream.reading_ || stream.finishing_) return;
  grpc::ByteBuffer request;
  const size_t before = stream.body_.size();
  const absl::StatusOr<bool> whole = stream.NextMessage(stream.called_->max_request_bytes, request);
  const size_t taken = before - stream.body_.size();
  body_bytes_ -= taken;
  // What follows this message waits for its turn within the window; a part of one must not.
  const size_t consumed = whole.ok() && *whole ? std::min(stream.unread_, taken) : stream.unread_;
  stream.unread_ -= consumed;
  nghttp2_session_consume_stream(session_.get(), stream.id_, consumed);
  if (!whole.ok()) return started ? Drop(stream, NGHTTP2_CANCEL) : Refuse(stream, whole.status());
  if (*whole) {
    stream.reading_ = false;
    if (started) return stream.call_->OnRequest(request);
    stream.phase_ = Phase::kRunning;
    stream.call_ = stream.called_->new_call(&stream);
    return stream.call_->Start(request);
  }
  if (!stream.half_closed_) return;
  stream.reading_ = false;
  if (started) return stream.call_->OnRequestsDone();
  if (before == 0 && stream.called_->many_requests) return Refuse(stream, absl::OkStatus());
  Refuse(stream, before == 0 ? absl::UnimplementedError("the request has no message")
                             : absl::InvalidArgumentError("the request ends within its message"));
}

void H2Session::Drop(H2Stream& stream, uint32_t error) {
  const auto found = streams_.find(stream.id_);
  if (found == streams_.end()) return;
  closed_.push_back(std::move(found->second));
  streams_.erase(found);
  nghttp2_submit_rst_stream(session_.get(), NGHTTP2_FLAG_NONE, stream.id_, error);
  host_->MarkDirty();
}

void H2Session::Close(H2Stream& stream) {
  stream.phase_ = H2Stream::Phase::kClosed;
  host_->LeaveStream();
  body_bytes_ -= stream.body_.size();
  last_busy_ = std::chrono::steady_clock::now();
  if (stream.call_ == nullptr) return;
  if (!stream.end_sent_) stream.call_->OnCancel();
  if (stream.writing_.exchange(false)) stream.call_->OnWriteDone(false);
  stream.call_->OnDone();
  stream.call_ = nullptr;
}

void H2Session::OnPing() {
  const SteadyTime now = last_received_;
  if (last_ping_ && now - *last_ping_ < kMinClientPing && ++ping_strikes_ > kMaxPingStrikes)
    Terminate(NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
  last_ping_ = now;
}

void H2Session::Spend(int64_t cost) {
  if (!budget_.Take(cost, last_received_))
    Terminate(NGHTTP2_ENHANCE_YOUR_CALM, "too many frames that carry nothing");
}

void H2Session::CancelStreams() {
  while (!streams_.empty()) Drop(*streams_.begin()->second, NGHTTP2_CANCEL);
}

void H2Session::Lost() {
  broken_ = true;
  for (auto& [id, stream] : std::exchange(streams_, {})) closed_.push_back(std::move(stream));
  Settle();
}

}  // namespace sluice::rpc
