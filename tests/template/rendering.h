// Support of the template tests: render to plain text, or to text with the client's bytes in
// brackets.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "template/chat_template.h"

namespace sluice::testing {

// The whole output. `variables` is JSON. bos is "<s>", eos "</s>"; now is 2 January 2026, 03:04:05
// local time.
absl::StatusOr<std::string> Render(std::string_view source, const boost::json::object& variables,
                                   TemplateLimits limits = {});
absl::StatusOr<std::string> Render(std::string_view source, std::string_view variables_json = "{}",
                                   TemplateLimits limits = {});

// "⟦" and "⟧" around each segment that may not hold special tokens. An error's text where there is
// one.
std::string Traced(std::string_view source, std::string_view variables_json);

}  // namespace sluice::testing
