#include "base/errors.h"

#include <absl/strings/cord.h>
#include <fmt/format.h>

#include <charconv>

namespace sluice {
namespace {

constexpr std::string_view kParamUrl = "sluice/param";
constexpr std::string_view kCodeUrl = "sluice/code";
constexpr std::string_view kHttpUrl = "sluice/http";

absl::string_view Absl(std::string_view s) { return {s.data(), s.size()}; }

absl::Status With(absl::Status status, std::string_view url, std::string_view value) {
  if (!status.ok() && !value.empty()) status.SetPayload(Absl(url), absl::Cord(Absl(value)));
  return status;
}

std::string Get(const absl::Status& status, std::string_view url) {
  const auto payload = status.GetPayload(Absl(url));
  return payload ? std::string(*payload) : std::string();
}

struct Entry {
  absl::StatusCode code;
  int http_status;
  std::string_view type;
};
constexpr Entry kTable[] = {
    {absl::StatusCode::kInvalidArgument, 400, "invalid_request_error"},
    {absl::StatusCode::kOutOfRange, 400, "invalid_request_error"},
    {absl::StatusCode::kFailedPrecondition, 400, "invalid_request_error"},
    {absl::StatusCode::kUnauthenticated, 401, "authentication_error"},
    {absl::StatusCode::kPermissionDenied, 403, "permission_error"},
    {absl::StatusCode::kNotFound, 404, "not_found_error"},
    {absl::StatusCode::kAlreadyExists, 409, "conflict_error"},
    {absl::StatusCode::kAborted, 409, "conflict_error"},
    {absl::StatusCode::kResourceExhausted, 429, "rate_limit_error"},
    {absl::StatusCode::kCancelled, 499, "cancelled_error"},
    {absl::StatusCode::kInternal, 500, "server_error"},
    {absl::StatusCode::kUnknown, 500, "server_error"},
    {absl::StatusCode::kDataLoss, 500, "server_error"},
    {absl::StatusCode::kUnimplemented, 501, "not_implemented_error"},
    {absl::StatusCode::kUnavailable, 503, "service_unavailable_error"},
    {absl::StatusCode::kDeadlineExceeded, 504, "timeout_error"},
};

// gRPC's code for a status that began as a number of HTTP's own.
absl::StatusCode CodeOfHttpStatus(int http_status) {
  switch (http_status) {
    case 401:
      return absl::StatusCode::kUnauthenticated;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 408:
      return absl::StatusCode::kDeadlineExceeded;
    case 501:
      return absl::StatusCode::kUnimplemented;
    case 503:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kInvalidArgument;
  }
}

}  // namespace

absl::Status WithParam(absl::Status status, std::string_view param) {
  return With(std::move(status), kParamUrl, param);
}
absl::Status WithErrorCode(absl::Status status, std::string_view code) {
  return With(std::move(status), kCodeUrl, code);
}
std::string ErrorParam(const absl::Status& status) { return Get(status, kParamUrl); }
std::string ErrorCode(const absl::Status& status) { return Get(status, kCodeUrl); }

absl::Status FieldError(std::string_view param, std::string_view message, std::string_view code) {
  return WithErrorCode(WithParam(absl::InvalidArgumentError(Absl(message)), param), code);
}

WireError ToWireError(const absl::Status& status) {
  for (const Entry& entry : kTable) {
    if (entry.code != status.code()) continue;
    WireError error{entry.http_status, entry.type, entry.code};
    const std::string http = Get(status, kHttpUrl);
    std::from_chars(http.data(), http.data() + http.size(), error.http_status);
    return error;
  }
  return {500, "server_error", absl::StatusCode::kInternal};
}

absl::Status HttpError(int http_status, std::string_view message) {
  return With(absl::Status(CodeOfHttpStatus(http_status), Absl(message)), kHttpUrl,
              fmt::to_string(http_status));
}

}  // namespace sluice
