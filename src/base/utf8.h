// UTF-8 as Unicode 15 §3.9 defines it: what is well-formed, and which bytes one U+FFFD stands for
// (a maximal subpart; the same choice as Python's bytes.decode(errors="replace")).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

struct Utf8Unit {
  enum class Kind : uint8_t { kCharacter, kInvalid, kTruncated };
  Kind kind;
  uint8_t length;  // bytes; of an invalid or truncated sequence: its maximal subpart, 1..3
};

// The first unit of `bytes`, which is not empty. kTruncated: all of `bytes` is the beginning of a
// character whose end is missing.
[[nodiscard]] Utf8Unit FirstUtf8Unit(std::string_view bytes);

[[nodiscard]] bool IsValidUtf8(std::string_view bytes);

// Appends `bytes` to `out` with invalid sequences replaced by U+FFFD, up to a truncated character
// at the end. Returns the number of bytes taken: all but that tail of at most 3 bytes.
size_t AppendWholeCharacters(std::string_view bytes, std::string& out);

// All of `bytes`, with invalid sequences and a truncated tail replaced by U+FFFD.
[[nodiscard]] std::string ReplaceInvalidUtf8(std::string_view bytes);

// The code point at `p`, in text that is known to be valid; sets `length` to its bytes.
[[nodiscard]] inline char32_t DecodeValidUtf8(const char* p, size_t& length) {
  const auto byte = [p](size_t i) { return static_cast<uint8_t>(p[i]); };
  const auto tail = [&](size_t i) { return static_cast<char32_t>(byte(i) & 0x3F); };
  const char32_t lead = byte(0);
  if (lead < 0x80) {
    length = 1;
    return lead;
  }
  if (lead < 0xE0) {
    length = 2;
    return (lead & 0x1F) << 6 | tail(1);
  }
  if (lead < 0xF0) {
    length = 3;
    return (lead & 0x0F) << 12 | tail(1) << 6 | tail(2);
  }
  length = 4;
  return (lead & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3);
}

// Cuts a byte stream into whole UTF-8 characters: holds an incomplete tail back, replaces invalid
// bytes by U+FFFD (one per maximal subpart, Unicode 15 §3.9). The concatenation of all results is
// valid UTF-8 whatever comes in.
class Utf8Stream {
 public:
  [[nodiscard]] std::string Append(std::string_view bytes);
  [[nodiscard]] std::string Flush();  // the held tail as U+FFFD, or nothing
  [[nodiscard]] size_t num_held() const { return held_.size(); }

 private:
  std::string held_;  // at most 3 bytes
};

}  // namespace sluice
