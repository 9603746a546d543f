// HTTP/1.1 requests out of bytes, without I/O: Beast's parser behind our limits and our refusals.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sluice {

struct RequestLimits {
  int64_t max_header_bytes = 0;
  int64_t max_body_bytes = 0;
};

// One request. After an error the connection cannot go on: where the next request begins is
// unknown.
class RequestParser {
 public:
  explicit RequestParser(const RequestLimits& limits);
  ~RequestParser();

  // Takes as much of `data` as it can and returns how much; stops after the header once, so that a
  // caller may refuse before the body comes. Bytes not taken must be offered again with what
  // follows them. Errors, as HttpError: 400 malformed, 413 body, 431 header, 501 transfer coding,
  // 505 version.
  absl::StatusOr<size_t> Parse(std::string_view data);

  [[nodiscard]] bool header_done() const;
  [[nodiscard]] bool done() const;

  // From here on: once header_done().
  [[nodiscard]] std::string_view method() const;
  [[nodiscard]] std::string_view target() const;
  [[nodiscard]] bool is_http_1_0() const;
  [[nodiscard]] bool keep_alive() const;
  // Empty if absent; the first if repeated.
  [[nodiscard]] std::string_view Header(std::string_view name) const;
  [[nodiscard]] size_t CountHeader(std::string_view name) const;
  // Whether a body was announced (Content-Length, also 0, or chunked).
  [[nodiscard]] bool has_length() const;
  // Whether bytes of a body are still to come.
  [[nodiscard]] bool expects_body() const;
  // Once done(). May be moved out.
  [[nodiscard]] std::string& body();

 private:
  absl::Status CheckFraming();

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
