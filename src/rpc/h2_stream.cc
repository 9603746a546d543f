#include "rpc/h2_stream.h"

#include <fmt/format.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <limits>

#include "rpc/h2_session.h"

namespace sluice::rpc {
namespace {

constexpr size_t kPrefixBytes = 5;  // compressed or not, and the length, before each message

}  // namespace

H2Stream::H2Stream(H2Session* session, int32_t id, SteadyTime begin)
    : session_(session), id_(id), begin_(begin), events_(session->host()->events()) {}

std::string H2Stream::Peer() const { return session_->host()->peer(); }

std::string H2Stream::Metadata(const char* name) const {
  for (const auto& [key, value] : metadata_) {
    if (key == name) return value;
  }
  return {};
}

size_t H2Stream::CountMetadata(const char* name) const {
  return static_cast<size_t>(std::count_if(metadata_.begin(), metadata_.end(),
                                           [&](const auto& entry) { return entry.first == name; }));
}

void H2Stream::AddInitialMetadata(const std::string& name, const std::string& value) {
  initial_.emplace_back(name, value);
}

void H2Stream::AddTrailingMetadata(const std::string& name, const std::string& value) {
  trailing_.emplace_back(name, value);
}

absl::Status H2Stream::Encode(const google::protobuf::Message& message) {
  const size_t size = message.ByteSizeLong();
  if (size > static_cast<size_t>(std::numeric_limits<int>::max())) {
    return absl::InternalError(fmt::format("an answer of {} bytes does not fit one message", size));
  }
  encoded_.resize(kPrefixBytes + size);
  encoded_[0] = '\0';  // not compressed
  for (size_t i = 1; i < kPrefixBytes; ++i)
    encoded_[i] = static_cast<char>(size >> (8 * (kPrefixBytes - 1 - i)));
  message.SerializeWithCachedSizesToArray(
      reinterpret_cast<uint8_t*>(encoded_.data() + kPrefixBytes));
  return absl::OkStatus();
}

void H2Stream::StartWrite() {
  writing_.store(true);
  Hand(Order::kWrite);
}

void H2Stream::FinishWithMessage(grpc::Status status) {
  status_ = std::move(status);
  Hand(Order::kFinishWithMessage);
}

void H2Stream::Finish(grpc::Status status) {
  status_ = std::move(status);
  Hand(Order::kFinish);
}

void H2Stream::TryCancel() { Hand(Order::kCancel); }

// The call is not over, so the session is there; what is posted may come when both are no longer.
void H2Stream::Hand(Order order) {
  H2Host* const host = session_->host();
  if (host->OnThread()) return session_->Take(*this, order);
  host->Post([self = shared_from_this(), order] {
    if (self->phase_ != Phase::kClosed) self->session_->Take(*self, order);
  });
}

void H2Stream::TakeHeader(std::string_view name, std::string_view value, size_t max_bytes) {
  header_bytes_ += name.size() + value.size() + 32;  // as HTTP/2 counts them
  if (header_bytes_ > max_bytes) return;
  if (name == ":method") {
    method_ = value;
  } else if (name == ":path") {
    path_ = value;
  } else if (name == "content-type") {
    content_type_ = value;
  } else if (name == "grpc-encoding") {
    encoding_ = value;
  } else if (name == "grpc-timeout") {
    timeout_ = value;
  } else if (name == "authorization" || name == "x-request-id") {
    metadata_.emplace_back(name, value);  // all that calls ask for
  }
}

absl::StatusOr<bool> H2Stream::NextMessage(size_t max_bytes, grpc::ByteBuffer& message) {
  if (body_.size() < kPrefixBytes) return false;
  if (body_[0] != 0)
    return absl::UnimplementedError("compressed messages are not supported; send identity");
  size_t size = 0;
  for (size_t i = 1; i < kPrefixBytes; ++i) size = size << 8U | static_cast<uint8_t>(body_[i]);
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(
        fmt::format("the message has {} bytes; the limit is {}", size, max_bytes));
  }
  if (body_.size() < kPrefixBytes + size) {
    // What a client announces is believed a little at a time.
    if (body_.capacity() < body_.size() + (64U << 10U))
      body_.reserve(std::min(kPrefixBytes + size, 2 * body_.size() + (64U << 10U)));
    return false;
  }
  const grpc::Slice slice(body_.data() + kPrefixBytes, size);
  message = grpc::ByteBuffer(&slice, 1);
  body_.erase(0, kPrefixBytes + size);
  if (body_.empty()) body_ = std::string();
  return true;
}

}  // namespace sluice::rpc
