// What a session sends: answers, refusals, and last words.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/time/clock.h"
#include "base/logging.h"
#include "rpc/codec.h"
#include "rpc/h2_session.h"
#include "rpc/h2_wire.h"

namespace sluice::rpc {
namespace {

constexpr std::chrono::milliseconds kGoodbyeAfter{100};

std::chrono::nanoseconds Chrono(absl::Duration duration) {
  return absl::ToChronoNanoseconds(duration);
}

ssize_t Read(nghttp2_session* /*session*/, int32_t id, uint8_t* out, size_t size, uint32_t* flags,
             nghttp2_data_source* /*source*/, void* self) {
  return static_cast<H2Session*>(self)->ReadAnswer(id, out, size, flags);
}

}  // namespace

void H2Session::Take(H2Stream& stream, H2Stream::Order order) {
  using Order = H2Stream::Order;
  if (stream.phase_ == H2Stream::Phase::kClosed) return;
  if (order == Order::kCancel) return Drop(stream, NGHTTP2_CANCEL);
  if (order == Order::kRead) {
    stream.reading_ = true;
    arrived_.push_back(stream.shared_from_this());
    return host_->MarkDirty();
  }
  if (order != Order::kFinish) {
    stream.sending_.swap(stream.encoded_);
    stream.sent_ = 0;
  }
  stream.notify_ = order == Order::kWrite;
  stream.finishing_ = order != Order::kWrite;
  if (stream.expired_ && stream.status_.error_code() == grpc::StatusCode::CANCELLED)
    stream.status_ = {grpc::StatusCode::DEADLINE_EXCEEDED, "the deadline has passed"};
  stream.busy_since_ = std::chrono::steady_clock::now();
  if (!std::exchange(stream.answered_, true)) {
    SendHeaders(stream);
  } else {
    nghttp2_session_resume_data(session_.get(), stream.id_);
  }
  host_->MarkDirty();
}

ssize_t H2Session::ReadAnswer(int32_t id, uint8_t* out, size_t size, uint32_t* flags) {
  H2Stream* const found = Find(id);
  if (found == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  H2Stream& stream = *found;
  size = std::min(size, stream.sending_.size() - stream.sent_);
  std::memcpy(out, stream.sending_.data() + stream.sent_, size);
  stream.sent_ += size;
  if (stream.sent_ < stream.sending_.size()) return static_cast<ssize_t>(size);
  if (stream.finishing_) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    SendTrailers(stream);
    return static_cast<ssize_t>(size);
  }
  if (std::exchange(stream.notify_, false)) {
    stream.busy_since_ = SteadyTime::max();
    written_.push_back(stream.shared_from_this());
  }
  if (size == 0) return NGHTTP2_ERR_DEFERRED;
  return static_cast<ssize_t>(size);
}

void H2Session::SendHeaders(H2Stream& stream) {
  std::vector<nghttp2_nv> headers = {Header(":status", "200", true),
                                     Header("content-type", "application/grpc", true),
                                     Header("grpc-accept-encoding", "identity", true)};
  for (const auto& [name, value] : stream.initial_) headers.push_back(Header(name, value));
  const nghttp2_data_provider provider{.source = {}, .read_callback = Read};
  nghttp2_submit_response(session_.get(), stream.id_, headers.data(), headers.size(), &provider);
}

void H2Session::SendTrailers(H2Stream& stream) {
  const std::string code = fmt::to_string(static_cast<int>(stream.status_.error_code()));
  const std::string message = PercentEncode(stream.status_.error_message());
  const std::string details = EncodeBinary(stream.status_.error_details());
  std::vector<nghttp2_nv> trailers = {Header("grpc-status", code, true)};
  if (!message.empty()) trailers.push_back(Header("grpc-message", message));
  if (!details.empty()) trailers.push_back(Header("grpc-status-details-bin", details));
  for (const auto& [name, value] : stream.trailing_) trailers.push_back(Header(name, value));
  nghttp2_submit_trailer(session_.get(), stream.id_, trailers.data(), trailers.size());
}

void H2Session::Refuse(H2Stream& stream, const absl::Status& status, std::string_view http_status) {
  if (stream.phase_ != H2Stream::Phase::kBody) return Drop(stream, NGHTTP2_CANCEL);
  stream.phase_ = H2Stream::Phase::kRefused;
  body_bytes_ -= stream.body_.size();
  stream.body_ = std::string();
  stream.busy_since_ = std::chrono::steady_clock::now();
  const grpc::Status shown = EncodeStatus(status);
  const std::string code = fmt::to_string(static_cast<int>(shown.error_code()));
  const std::string message = PercentEncode(shown.error_message());
  const nghttp2_nv headers[] = {Header(":status", http_status, true),
                                Header("content-type", "application/grpc", true),
                                Header("grpc-accept-encoding", "identity", true),
                                Header("grpc-status", code, true), Header("grpc-message", message)};
  nghttp2_submit_response(session_.get(), stream.id_, headers, std::size(headers), nullptr);
  host_->MarkDirty();
}

void H2Session::OnSent(const nghttp2_frame& frame) {
  if (frame.hd.type != NGHTTP2_HEADERS && frame.hd.type != NGHTTP2_DATA) return;
  last_ping_.reset();
  ping_strikes_ = 0;
  H2Stream* const stream = Find(frame.hd.stream_id);
  if (stream == nullptr || (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return;
  stream->end_sent_ = true;
  // The answer is whole; what the client still has to say is not needed.
  if (!stream->half_closed_)
    nghttp2_submit_rst_stream(session_.get(), NGHTTP2_FLAG_NONE, stream->id_, NGHTTP2_NO_ERROR);
}

void H2Session::Terminate(uint32_t error, std::string_view reason) {
  if (std::exchange(terminating_, true)) return;
  Log(LogLevel::kInfo, "grpc_client_sent_away", {{"peer", host_->peer()}, {"reason", reason}});
  const int32_t last = nghttp2_session_get_last_proc_stream_id(session_.get());
  nghttp2_submit_goaway(session_.get(), NGHTTP2_FLAG_NONE, last, error,
                        reinterpret_cast<const uint8_t*>(reason.data()), reason.size());
  nghttp2_session_terminate_session2(session_.get(), last, error);
  host_->MarkDirty();
}

void H2Session::Drain() {
  if (std::exchange(draining_, true) || terminating_) return;
  drain_began_ = std::chrono::steady_clock::now();
  nghttp2_submit_shutdown_notice(session_.get());
  if (streams_.empty()) SayGoodbye();
  host_->MarkDirty();
}

// After a while in which requests that were under way could still be refused one by one.
void H2Session::SayGoodbye() {
  if (std::exchange(said_goodbye_, true)) return;
  nghttp2_submit_goaway(session_.get(), NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(session_.get()), NGHTTP2_NO_ERROR,
                        nullptr, 0);
  host_->MarkDirty();
}

void H2Session::Sweep(SteadyTime now) {
  std::vector<StreamPtr> streams;
  streams.reserve(streams_.size());
  for (const auto& [id, stream] : streams_) streams.push_back(stream);
  for (const StreamPtr& stream : streams) SweepStream(*stream, now);
  if (!streams.empty()) last_busy_ = now;
  if (now - last_busy_ > Chrono(limits_.idle_timeout)) Drain();
  if (draining_ && now - drain_began_ > kGoodbyeAfter) SayGoodbye();
  if (pinged_ != SteadyTime::max()) {
    if (now - pinged_ > kKeepaliveTimeout) broken_ = true;
  } else if (now - last_received_ > kKeepalive) {
    nghttp2_submit_ping(session_.get(), NGHTTP2_FLAG_NONE, nullptr);
    pinged_ = now;
    host_->MarkDirty();
  }
}

void H2Session::SweepStream(H2Stream& stream, SteadyTime now) {
  using Phase = H2Stream::Phase;
  const bool arriving = stream.phase_ == Phase::kHeaders || stream.phase_ == Phase::kBody;
  const bool streams = stream.called_ != nullptr && stream.called_->many_requests;
  const absl::Duration patience = streams ? limits_.idle_timeout : limits_.read_timeout;
  if (arriving && now - stream.begin_ > Chrono(patience)) {
    if (stream.phase_ == Phase::kHeaders)
      return Terminate(NGHTTP2_ENHANCE_YOUR_CALM, "a header did not arrive in time");
    return Refuse(stream, absl::DeadlineExceededError("the request did not arrive in time"));
  }
  if (stream.busy_since_ != SteadyTime::max() &&
      now - stream.busy_since_ > Chrono(limits_.write_timeout)) {
    return Drop(stream, NGHTTP2_CANCEL);
  }
  if (stream.phase_ == Phase::kRunning && !stream.finishing_ && stream.deadline_ <= absl::Now() &&
      !std::exchange(stream.expired_, true)) {
    stream.call_->OnCancel();
  }
}

}  // namespace sluice::rpc
