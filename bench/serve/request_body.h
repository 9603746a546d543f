// An exchange as the bytes of a request.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "bench/serve/exchange.h"
#include "bench/serve/options.h"

namespace sluice::load {

using RequestEncoder = std::function<std::string(const Exchange&)>;

// JSON of /v1/chat/completions or /v1/completions, streamed, with usage at the end. `model` and the
// options are copied. Errors: InvalidArgument if extra_body is no object.
absl::StatusOr<RequestEncoder> OpenAiEncoder(const LoadOptions& options, const std::string& model);

// `,"name":value` for each field of the JSON object in `text`; nothing for "". Errors:
// InvalidArgument if it is no object.
absl::StatusOr<std::string> ExtraFields(const std::string& text);

}  // namespace sluice::load
