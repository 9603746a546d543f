#include "tokenizer/chars_map.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <cstring>

#include "base/utf8.h"

namespace sluice {
namespace {

// A unit of darts-clone's array: bits 0-7 the label, bit 8 has a value, bit 9 the offset's scale,
// bits 10-31 the offset; a unit with a value holds it in bits 0-30.
constexpr uint32_t LabelOf(uint32_t unit) { return unit & (0x80000000U | 0xFF); }
constexpr uint32_t OffsetOf(uint32_t unit) { return (unit >> 10) << ((unit & 0x200U) >> 6); }
constexpr bool HasValue(uint32_t unit) { return (unit >> 8 & 1) != 0; }
constexpr uint32_t ValueOf(uint32_t unit) { return unit & 0x7FFFFFFFU; }

constexpr size_t kMaxGraphemeBytes = 6;

uint32_t ReadU32(const char* p) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(p[i]);
  return value;
}

}  // namespace

absl::StatusOr<CharsMap> CharsMap::Parse(std::string_view bytes) {
  if (bytes.size() < 4) {
    return absl::InvalidArgumentError(fmt::format(
        "tokenizer: the characters map has {} bytes; its size alone takes 4", bytes.size()));
  }
  const size_t trie_bytes = ReadU32(bytes.data());
  if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > bytes.size() - 4) {
    return absl::InvalidArgumentError(fmt::format(
        "tokenizer: the characters map has a trie of {} bytes in {}", trie_bytes, bytes.size()));
  }
  CharsMap map;
  map.trie_.reserve(trie_bytes / 4);
  for (size_t i = 4; i < 4 + trie_bytes; i += 4) map.trie_.push_back(ReadU32(bytes.data() + i));
  map.replacements_ = bytes.substr(4 + trie_bytes);
  if (!IsValidUtf8(map.replacements_)) {
    return absl::InvalidArgumentError(
        "tokenizer: the characters map has replacements that are not valid UTF-8");
  }
  return map;
}

std::optional<std::string_view> CharsMap::Find(std::string_view piece) const {
  size_t node = OffsetOf(trie_[0]);
  for (const char c : piece) {
    const uint32_t label = static_cast<uint8_t>(c);
    if (label == 0) return std::nullopt;
    node ^= label;
    if (node >= trie_.size()) return std::nullopt;
    const uint32_t unit = trie_[node];
    if (LabelOf(unit) != label) return std::nullopt;
    node ^= OffsetOf(unit);
    if (!HasValue(unit)) continue;
    if (node >= trie_.size()) return std::nullopt;
    const size_t begin = ValueOf(trie_[node]);
    // Inside a character begins nothing that a compiler of rules would write.
    if (begin >= replacements_.size() ||
        (static_cast<uint8_t>(replacements_[begin]) & 0xC0) == 0x80) {
      return std::nullopt;
    }
    const std::string_view rest = std::string_view(replacements_).substr(begin);
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

std::string CharsMap::Apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    size_t length = 0;
    auto c = static_cast<utf8proc_int32_t>(DecodeValidUtf8(p, length));
    const char* grapheme_end = p + length;
    utf8proc_int32_t state = 0;
    while (grapheme_end < end) {
      const auto next = static_cast<utf8proc_int32_t>(DecodeValidUtf8(grapheme_end, length));
      if (utf8proc_grapheme_break_stateful(c, next, &state)) break;
      c = next;
      grapheme_end += length;
    }
    const std::string_view grapheme(p, static_cast<size_t>(grapheme_end - p));
    p = grapheme_end;
    if (grapheme.size() < kMaxGraphemeBytes) {
      if (const auto replacement = Find(grapheme)) {
        out += *replacement;
        continue;
      }
    }
    for (size_t i = 0; i < grapheme.size(); i += length) {
      length = FirstUtf8Unit(grapheme.substr(i)).length;
      const std::string_view character = grapheme.substr(i, length);
      out += Find(character).value_or(character);
    }
  }
  return out;
}

}  // namespace sluice
