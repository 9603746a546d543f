// When it is worth to try again: rides on the Status of a refusal, from whoever knows it.
#pragma once

#include <absl/strings/cord.h>
#include <fmt/format.h>

#include <charconv>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice {

inline constexpr char kRetryAfterUrl[] = "sluice/retry_after_ns";

[[nodiscard]] inline absl::Status WithRetryAfter(absl::Status status, absl::Duration retry_after) {
  const std::string text = fmt::to_string(absl::ToInt64Nanoseconds(retry_after));
  // Of a view: newer compilers write the name of Cord's constructor of a string in another way than
  // the packaged library has it.
  status.SetPayload(kRetryAfterUrl, absl::Cord(absl::string_view(text)));
  return status;
}

// Zero: nobody said.
[[nodiscard]] inline absl::Duration RetryAfterOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryAfterUrl);
  if (!payload) return absl::ZeroDuration();
  const std::string text(*payload);
  int64_t nanoseconds = 0;
  std::from_chars(text.data(), text.data() + text.size(), nanoseconds);
  return absl::Nanoseconds(nanoseconds);
}

}  // namespace sluice
