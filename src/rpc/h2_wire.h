// How gRPC writes its facts into HTTP/2 headers. Pure functions; what comes in is hostile.
#pragma once

#include <nghttp2/nghttp2.h>

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace sluice::rpc {

inline std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// The strings must live until nghttp2 has taken the header. `indexed`: whether the peer is to keep
// it for the headers that follow; what differs every time only costs it memory.
nghttp2_nv Header(std::string_view name, std::string_view value, bool indexed = false);

// "100m": at most 8 digits and a unit. Nothing: malformed.
std::optional<absl::Duration> ParseGrpcTimeout(std::string_view text);

// "application/grpc", also with "+proto" or parameters.
bool IsGrpcContentType(std::string_view value);

// grpc-message: everything but printable ASCII, and '%', as %XX.
std::string PercentEncode(std::string_view text);

// The value of a "-bin" header: base64 without padding.
std::string EncodeBinary(std::string_view bytes);

}  // namespace sluice::rpc
