#include "http/json_text.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <iterator>

#include "base/utf8.h"

namespace sluice {
namespace {

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
    } else if (const Utf8Unit unit = FirstUtf8Unit(utf8.substr(i));
               unit.kind == Utf8Unit::Kind::kCharacter) {
      i += unit.length;
    } else {
      flush();
      out += kReplacementCharacter;
      i += unit.length;
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

}  // namespace sluice
