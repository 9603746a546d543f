// Template source to tokens, with Jinja's white space control as transformers sets it (trim_blocks,
// lstrip_blocks).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice::jinja {

enum class TokenKind : uint8_t {
  kData,  // text outside of tags, after trimming
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,  // text: the value, escapes resolved
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;
  int line = 1;
};

// The last token is kEnd. Errors: InvalidArgument with the line.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

// The error every parse failure is.
[[nodiscard]] absl::Status SyntaxError(int line, std::string_view message);

}  // namespace sluice::jinja
