// Writing JSON by hand: the token path escapes text once, straight into the bytes that go out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

// Appends `utf8` as the inside of a JSON string. Bytes that are not valid UTF-8 become U+FFFD, one
// per maximal subpart, so whatever comes in, JSON stays valid.
void AppendJsonEscaped(std::string& out, std::string_view utf8);

// The same in quotes.
void AppendJsonString(std::string& out, std::string_view utf8);
[[nodiscard]] std::string JsonString(std::string_view utf8);

void AppendJsonInteger(std::string& out, int64_t value);

// The shortest decimal that reads back equal; infinities and NaN, which JSON has not, become -9999
// (as OpenAI's logprobs do for "impossible").
void AppendJsonFloat(std::string& out, float value);

}  // namespace sluice
