#include "http/json_text.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <iterator>

namespace sluice {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Length of the whole character at the start of `s`, or minus the length of the invalid maximal
// subpart. Source: Unicode 15, table 3-7.
int CharacterLength(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return -1;
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and values past U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) >= s.size()) return -i;
    const unsigned char b = byte(static_cast<size_t>(i));
    if (i == 1 ? (b < low || b > high) : (b < 0x80 || b > 0xBF)) return -i;
  }
  return length;
}

// True for bytes that go out as they are.
constexpr std::array<bool, 256> kPlain = [] {
  std::array<bool, 256> plain{};
  for (int c = 0x20; c < 0x80; ++c) plain[static_cast<size_t>(c)] = c != '"' && c != '\\';
  return plain;
}();

void AppendSpecial(std::string& out, char c) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default: {
      constexpr char kHex[] = "0123456789abcdef";
      const auto u = static_cast<unsigned char>(c);
      out += "\\u00";
      out += kHex[u >> 4];
      out += kHex[u & 15];
    }
  }
}

}  // namespace

void AppendJsonEscaped(std::string& out, std::string_view utf8) {
  size_t run = 0;  // [run, i) waits to be copied
  size_t i = 0;
  const auto flush = [&] { out.append(utf8.substr(run, i - run)); };
  while (i < utf8.size()) {
    const auto c = static_cast<unsigned char>(utf8[i]);
    if (kPlain[c]) {
      ++i;
    } else if (c < 0x80) {
      flush();
      AppendSpecial(out, utf8[i]);
      run = ++i;
    } else if (const int length = CharacterLength(utf8.substr(i)); length > 0) {
      i += static_cast<size_t>(length);
    } else {
      flush();
      out += kReplacement;
      i += static_cast<size_t>(-length);
      run = i;
    }
  }
  flush();
}

void AppendJsonString(std::string& out, std::string_view utf8) {
  out += '"';
  AppendJsonEscaped(out, utf8);
  out += '"';
}

std::string JsonString(std::string_view utf8) {
  std::string out;
  AppendJsonString(out, utf8);
  return out;
}

void AppendJsonInteger(std::string& out, int64_t value) {
  const fmt::format_int digits(value);
  out.append(digits.data(), digits.size());
}

void AppendJsonFloat(std::string& out, float value) {
  if (!std::isfinite(value)) {
    out += "-9999.0";
    return;
  }
  fmt::format_to(std::back_inserter(out), "{}", value);
}

bool IsValidUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const int length = CharacterLength(bytes);
    if (length < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(length));
  }
  return true;
}

}  // namespace sluice
