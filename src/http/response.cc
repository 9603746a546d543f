#include "http/response.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/errors.h"
#include "http/openai_response.h"

namespace sluice {

std::string_view ReasonPhrase(int http_status) {
  switch (http_status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Other";
  }
}

Response ErrorResponse(const absl::Status& status, absl::Duration retry_after) {
  Response response;
  response.status = ToWireError(status).http_status;
  response.body = ErrorJson(status);
  if (response.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (response.status == 429 || response.status == 503) {
    const double seconds = std::clamp(std::ceil(absl::ToDoubleSeconds(retry_after)), 1.0, 3600.0);
    response.headers.emplace_back("Retry-After", fmt::to_string(static_cast<int>(seconds)));
  }
  return response;
}

void AppendStatusLine(int http_status, std::string& out) {
  out += fmt::format("HTTP/1.1 {} {}\r\n", http_status, ReasonPhrase(http_status));
}

void AppendHeader(std::string_view name, std::string_view value, std::string& out) {
  out.append(name).append(": ").append(value).append("\r\n");
}

}  // namespace sluice
