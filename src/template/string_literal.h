// Python string escapes.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sluice::jinja {

// The value of a literal, given what stands between its quotes. Unknown escapes stay as they are,
// as in Python. Errors: InvalidArgument for a malformed \x, \u or \U, and for \N{...}, which needs
// a table of names.
absl::StatusOr<std::string> UnescapeLiteral(std::string_view literal);

}  // namespace sluice::jinja
