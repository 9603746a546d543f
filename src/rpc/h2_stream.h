// One HTTP/2 stream as the context of a call.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "rpc/call.h"
#include "rpc/h2_limits.h"

namespace sluice::rpc {

class H2Session;

// What a path stands for.
struct H2Method {
  bool many_requests = false;  // the client streams
  size_t max_request_bytes = 0;
  std::function<std::shared_ptr<Call>(CallContext*)> new_call;
};

// The session's thread owns it, but for what the call writes between its turns (below), which goes
// over with Hand: at once on that thread, posted to it from others.
class H2Stream final : public CallContext, public std::enable_shared_from_this<H2Stream> {
 public:
  enum class Phase : uint8_t {
    kHeaders,  // they come in
    kBody,     // the first message comes in
    kRunning,  // the call has started
    kRefused,  // an answer without a call goes out
    kClosed,   // the session knows it no longer
  };

  H2Stream(H2Session* session, int32_t id, SteadyTime begin);

  // --- CallContext
  [[nodiscard]] std::string Peer() const override;
  [[nodiscard]] std::string Metadata(const char* name) const override;
  [[nodiscard]] size_t CountMetadata(const char* name) const override;
  [[nodiscard]] absl::Time Deadline() const override { return deadline_; }
  [[nodiscard]] EventBook* events() override { return events_; }
  void AddInitialMetadata(const std::string& name, const std::string& value) override;
  void AddTrailingMetadata(const std::string& name, const std::string& value) override;
  absl::Status Encode(const google::protobuf::Message& message) override;
  void StartWrite() override;
  void StartRead() override { Hand(Order::kRead); }
  void FinishWithMessage(grpc::Status status) override;
  void Finish(grpc::Status status) override;
  void TryCancel() override;

 private:
  friend class H2Session;
  enum class Order : uint8_t { kRead, kWrite, kFinish, kFinishWithMessage, kCancel };
  void Hand(Order order);

  // One header of the request. Nothing is kept beyond `max_bytes` of them.
  void TakeHeader(std::string_view name, std::string_view value, size_t max_bytes);
  // Takes the next message off the body. False: it is not whole yet. Errors: it is compressed, or
  // over `max_bytes`.
  absl::StatusOr<bool> NextMessage(size_t max_bytes, grpc::ByteBuffer& message);

  H2Session* const session_;  // not to be followed once kClosed
  const int32_t id_;
  const SteadyTime begin_;
  EventBook* const events_;

  Phase phase_ = Phase::kHeaders;
  // Of the request
  std::string method_, path_, content_type_, encoding_, timeout_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  size_t header_bytes_ = 0;
  absl::Time deadline_ = absl::InfiniteFuture();
  const H2Method* called_ = nullptr;
  std::string body_;
  size_t unread_ = 0;         // bytes that the client may not yet send anew
  bool reading_ = true;       // the first message, or the next, is wanted
  bool half_closed_ = false;  // the client has said all

  std::shared_ptr<Call> call_;
  bool expired_ = false;    // by the deadline
  bool answered_ = false;   // the response's headers are with nghttp2
  bool finishing_ = false;  // nothing follows what is in sending_
  bool end_sent_ = false;
  bool notify_ = false;  // sending_ is a write of which the call is to be told
  std::string sending_;  // [sent_, size) is still to go
  size_t sent_ = 0;
  SteadyTime busy_since_ = SteadyTime::max();  // something waits for the client

  // The call's, until handed over
  std::vector<std::pair<std::string, std::string>> initial_, trailing_;
  std::string encoded_;
  grpc::Status status_;
  std::atomic<bool> writing_{false};  // from StartWrite until OnWriteDone
};

}  // namespace sluice::rpc
