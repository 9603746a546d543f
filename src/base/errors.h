// The one table from absl::Status to the wire, and the facts about an error that ride on a Status
// as payloads. It stands in base because http and rpc may not include service
// (docs/adr/0001-layers.md).
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice {

// Facts a Status carries beside code and message, as OpenAI's error object names them.
[[nodiscard]] absl::Status WithParam(absl::Status status,
                                     std::string_view param);  // the offending field
[[nodiscard]] absl::Status WithErrorCode(absl::Status status,
                                         std::string_view code);   // "context_length_exceeded", ...
[[nodiscard]] std::string ErrorParam(const absl::Status& status);  // empty: none
[[nodiscard]] std::string ErrorCode(const absl::Status& status);

// InvalidArgument about one field: the common refusal. `code` may be empty.
[[nodiscard]] absl::Status FieldError(std::string_view param, std::string_view message,
                                      std::string_view code = "");

struct WireError {
  int http_status = 500;
  std::string_view type;       // OpenAI's error type: "invalid_request_error", ...
  absl::StatusCode grpc_code;  // grpc::StatusCode has the same numbers
};
[[nodiscard]] WireError ToWireError(const absl::Status& status);

// HTTP's own refusals (405, 408, 411, 413, 415, 431, 501, ...) as a Status: the HTTP number rides
// as a payload.
[[nodiscard]] absl::Status HttpError(int http_status, std::string_view message);

}  // namespace sluice
