#include "base/utf8.h"

#include <cstring>

namespace sluice {
namespace {

// The length of the run of ASCII at the front of `bytes`, in whole words of 8: a fast skip, not
// exact.
size_t AsciiPrefix(std::string_view bytes) {
  size_t n = 0;
  for (; n + 8 <= bytes.size(); n += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + n, 8);
    if ((word & 0x8080808080808080U) != 0) break;
  }
  return n;
}

// The number of bytes at the front of `bytes` that are whole, valid characters.
size_t ValidPrefix(std::string_view bytes) {
  size_t n = 0;
  while (n < bytes.size()) {
    n += AsciiPrefix(bytes.substr(n));
    if (n == bytes.size()) break;
    const Utf8Unit unit = FirstUtf8Unit(bytes.substr(n));
    if (unit.kind != Utf8Unit::Kind::kCharacter) break;
    n += unit.length;
  }
  return n;
}

}  // namespace

Utf8Unit FirstUtf8Unit(std::string_view bytes) {
  using Kind = Utf8Unit::Kind;
  const auto lead = static_cast<uint8_t>(bytes[0]);
  if (lead < 0x80) return {Kind::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Kind::kInvalid, 1};
  const uint8_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  const uint8_t second_min = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t second_max = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (uint8_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Kind::kTruncated, i};
    const auto byte = static_cast<uint8_t>(bytes[i]);
    const uint8_t min = i == 1 ? second_min : 0x80;
    const uint8_t max = i == 1 ? second_max : 0xBF;
    if (byte < min || byte > max) return {Kind::kInvalid, i};
  }
  return {Kind::kCharacter, length};
}

bool IsValidUtf8(std::string_view bytes) { return ValidPrefix(bytes) == bytes.size(); }

size_t AppendWholeCharacters(std::string_view bytes, std::string& out) {
  size_t n = 0;
  while (n < bytes.size()) {
    const size_t valid = ValidPrefix(bytes.substr(n));
    out.append(bytes, n, valid);
    n += valid;
    if (n == bytes.size()) break;
    const Utf8Unit unit = FirstUtf8Unit(bytes.substr(n));
    if (unit.kind == Utf8Unit::Kind::kTruncated) break;
    out.append(kReplacementCharacter);
    n += unit.length;
  }
  return n;
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  if (AppendWholeCharacters(bytes, out) < bytes.size()) out.append(kReplacementCharacter);
  return out;
}

std::string Utf8Stream::Append(std::string_view bytes) {
  std::string out;
  if (held_.empty()) {
    held_ = bytes.substr(AppendWholeCharacters(bytes, out));
    return out;
  }
  held_.append(bytes);
  held_.erase(0, AppendWholeCharacters(held_, out));
  return out;
}

std::string Utf8Stream::Flush() {
  if (held_.empty()) return "";
  held_.clear();
  return std::string(kReplacementCharacter);
}

}  // namespace sluice
