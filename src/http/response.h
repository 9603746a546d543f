// A whole HTTP response, and the head that it shares with streamed ones.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice {

struct Response {
  int status = 200;
  std::string_view content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string_view, std::string>> headers;
};

[[nodiscard]] std::string_view ReasonPhrase(int http_status);

// The error table's answer: OpenAI's error object, with Retry-After (1 s at least) where a client
// should come again.
[[nodiscard]] Response ErrorResponse(const absl::Status& status,
                                     absl::Duration retry_after = absl::ZeroDuration());

// Appends "HTTP/1.1 200 OK\r\n", then headers are appended one by one, then "\r\n".
void AppendStatusLine(int http_status, std::string& out);
void AppendHeader(std::string_view name, std::string_view value, std::string& out);

}  // namespace sluice
