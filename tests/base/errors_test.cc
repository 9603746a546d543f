#include "base/errors.h"

#include <gtest/gtest.h>

#include <string_view>

namespace sluice {
namespace {

TEST(Errors, EveryStatusCodeHasOneHttpStatusAndType) {
  const struct {
    absl::StatusCode code;
    int http_status;
    std::string_view type;
  } kWanted[] = {
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
  for (const auto& wanted : kWanted) {
    const WireError error = ToWireError(absl::Status(wanted.code, "m"));
    EXPECT_EQ(error.http_status, wanted.http_status) << absl::StatusCodeToString(wanted.code);
    EXPECT_EQ(error.type, wanted.type) << absl::StatusCodeToString(wanted.code);
    EXPECT_EQ(error.grpc_code, wanted.code);
  }
}

TEST(Errors, AnUnknownNumberIsAServerError) {
  const WireError error = ToWireError(absl::Status(static_cast<absl::StatusCode>(77), "m"));
  EXPECT_EQ(error.http_status, 500);
  EXPECT_EQ(error.type, "server_error");
}

TEST(Errors, FieldErrorCarriesFieldAndCode) {
  const absl::Status status =
      FieldError("sampling.top_p", "top_p is 2; it is in (0, 1]", "out_of_range");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "top_p is 2; it is in (0, 1]");
  EXPECT_EQ(ErrorParam(status), "sampling.top_p");
  EXPECT_EQ(ErrorCode(status), "out_of_range");
}

TEST(Errors, FactsAreEmptyWhereNoneWereGivenAndOkCarriesNone) {
  EXPECT_EQ(ErrorParam(absl::InternalError("m")), "");
  EXPECT_EQ(ErrorCode(FieldError("a", "m")), "");
  EXPECT_EQ(ErrorParam(WithParam(absl::OkStatus(), "a")), "");
}

TEST(Errors, HttpErrorKeepsItsNumber) {
  for (const int http_status : {400, 401, 403, 404, 405, 408, 411, 413, 415, 431, 501, 503}) {
    EXPECT_EQ(ToWireError(HttpError(http_status, "m")).http_status, http_status);
  }
  EXPECT_EQ(HttpError(404, "m").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(HttpError(413, "m").code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sluice
