#include "tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "tokenizer/char_class.h"
#include "tokenizer/unicode_sets.h"

namespace sluice {
namespace {

using Kind = NormalizerStep::Kind;

bool IsAscii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

void AppendCodePoint(char32_t c, std::string& out) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
    return;
  }
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

// out = f(c, out) for each character c of text.
template <typename Function>
std::string MapCharacters(std::string_view text, Function&& function) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (size_t i = 0, length = 0; i < text.size(); i += length) {
    function(DecodeValidUtf8(text.data() + i, length), out);
  }
  return out;
}

std::vector<utf8proc_int32_t> Decompose(std::string_view text, bool compatible) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> out;
  out.reserve(text.size());
  for (size_t i = 0, length = 0; i < text.size(); i += length) {
    const auto c = static_cast<utf8proc_int32_t>(DecodeValidUtf8(text.data() + i, length));
    if (c >= 0x300 && Contains(kInert, static_cast<char32_t>(c))) {
      out.push_back(c);
      continue;
    }
    utf8proc_int32_t parts[32];  // the longest decomposition has 18
    int last_boundclass = 0;
    const auto n = utf8proc_decompose_char(c, parts, 32, options, &last_boundclass);
    if (n < 0 || n > 32) {
      out.push_back(c);
    } else {
      out.insert(out.end(), parts, parts + n);
    }
  }
  return out;
}

// Canonical order. utf8proc_decompose would do it by exchanging neighbours, which takes quadratic
// time for a long run of marks.
void OrderMarks(std::vector<utf8proc_int32_t>& text) {
  const auto class_of = [](utf8proc_int32_t c) {
    const int combining = c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class;
    return combining != 0 && Contains(kInert, static_cast<char32_t>(c)) ? 0 : combining;
  };
  for (auto begin = text.begin(); begin != text.end();) {
    begin = std::find_if(begin, text.end(), [&](auto c) { return class_of(c) != 0; });
    const auto end = std::find_if(begin, text.end(), [&](auto c) { return class_of(c) == 0; });
    std::stable_sort(begin, end, [&](auto a, auto b) { return class_of(a) < class_of(b); });
    begin = end;
  }
}

std::string UnicodeForm(std::string_view text, bool compose, bool compatible) {
  if (IsAscii(text)) return std::string(text);
  std::vector<utf8proc_int32_t> characters = Decompose(text, compatible);
  OrderMarks(characters);
  if (compose) {
    const auto size = utf8proc_normalize_utf32(
        characters.data(), static_cast<utf8proc_ssize_t>(characters.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (size >= 0) characters.resize(static_cast<size_t>(size));
  }
  std::string out;
  out.reserve(text.size());
  for (const auto c : characters) AppendCodePoint(static_cast<char32_t>(c), out);
  return out;
}

// Upper-case letters that utf8proc's Unicode 15 does not know and the package's does.
struct CasePair {
  char32_t begin, end;  // half-open
  char32_t lower;       // of begin
};
constexpr CasePair kNewerPairs[] = {
    {0x1C89, 0x1C8A, 0x1C8A},    {0xA7CB, 0xA7CC, 0x264},  {0xA7CC, 0xA7CD, 0xA7CD},
    {0xA7CE, 0xA7CF, 0xA7CF},    {0xA7D2, 0xA7D3, 0xA7D3}, {0xA7D4, 0xA7D5, 0xA7D5},
    {0xA7DA, 0xA7DB, 0xA7DB},    {0xA7DC, 0xA7DD, 0x19B},  {0x10D50, 0x10D66, 0x10D70},
    {0x16EA0, 0x16EB9, 0x16EBB},
};

std::string Lowercase(std::string_view text) {
  return MapCharacters(text, [](char32_t c, std::string& out) {
    if (c == 0x130) {
      out += "i\xCC\x87";  // the one letter with two in lower case
      return;
    }
    for (const CasePair& pair : kNewerPairs) {
      if (c < pair.begin) break;
      if (c < pair.end) c = c - pair.begin + pair.lower;
    }
    AppendCodePoint(static_cast<char32_t>(utf8proc_tolower(static_cast<int32_t>(c))), out);
  });
}

std::string Without(std::span<const CodePointRange> set, std::string_view text) {
  if (IsAscii(text)) return std::string(text);
  return MapCharacters(text, [&](char32_t c, std::string& out) {
    if (!Contains(set, c)) AppendCodePoint(c, out);
  });
}

constexpr CodePointRange kChinese[] = {
    {0x3400, 0x4DC0},   {0x4E00, 0xA000},   {0xF900, 0xFB00},   {0x20000, 0x2A6E0},
    {0x2A700, 0x2B820}, {0x2B920, 0x2CEB0}, {0x2F800, 0x2FA20},
};

std::string Bert(const NormalizerStep& step, std::string_view text) {
  std::string out = MapCharacters(text, [&](char32_t c, std::string& to) {
    if (step.clean_text && Contains(kBertRemoved, c)) return;
    if (step.clean_text && CharKinds().Of(c) == CharKind::kSpace) c = ' ';
    const bool chinese = step.space_chinese && c >= 0x3400 && Contains(kChinese, c);
    if (chinese) to.push_back(' ');
    AppendCodePoint(c, to);
    if (chinese) to.push_back(' ');
  });
  if (step.strip_accents) out = Without(kBertAccents, UnicodeForm(out, false, false));
  return step.lowercase ? Lowercase(out) : out;
}

std::string Replace(std::string_view pattern, std::string_view content, std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  while (true) {
    const size_t at = text.find(pattern);
    out += text.substr(0, at);
    if (at == std::string_view::npos) return out;
    out += content;
    text.remove_prefix(at + pattern.size());
  }
}

std::string Collapse(std::string_view content, std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t end = std::min(text.find_first_not_of(' ', i), text.size());
    if (end - i >= 2) {
      out += content;
      i = end;
    } else {
      out.push_back(text[i++]);
    }
  }
  return out;
}

std::string_view Strip(const NormalizerStep& step, std::string_view text) {
  while (step.strip_left && !text.empty()) {
    const Character c = CharacterAt(text.data());
    if (c.kind != CharKind::kSpace) break;
    text.remove_prefix(c.length);
  }
  while (step.strip_right && !text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (static_cast<uint8_t>(text[last]) & 0xC0) == 0x80) --last;
    if (CharacterAt(text.data() + last).kind != CharKind::kSpace) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

std::string ApplyStep(const NormalizerStep& step, std::string_view text) {
  switch (step.kind) {
    case Kind::kNfc:
      return UnicodeForm(text, true, false);
    case Kind::kNfd:
      return UnicodeForm(text, false, false);
    case Kind::kNfkc:
      return UnicodeForm(text, true, true);
    case Kind::kNfkd:
      return UnicodeForm(text, false, true);
    case Kind::kLowercase:
      return Lowercase(text);
    case Kind::kStripAccents:
      return Without(kAccents, text);
    case Kind::kStrip:
      return std::string(Strip(step, text));
    case Kind::kPrepend:
      return text.empty() ? std::string() : step.content + std::string(text);
    case Kind::kReplace:
      return Replace(step.pattern, step.content, text);
    case Kind::kCollapse:
      return Collapse(step.content, text);
    case Kind::kBert:
      return Bert(step, text);
    case Kind::kCharsMap:
      break;  // its map is not in the step: Apply does it
  }
  return std::string(text);
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Create(const std::vector<NormalizerStep>& steps) {
  Normalizer normalizer;
  for (const NormalizerStep& step : steps) {
    if (step.kind == Kind::kReplace && step.pattern.empty()) {
      return absl::InvalidArgumentError("tokenizer: a normalizer replaces an empty pattern");
    }
    if (step.kind == Kind::kCharsMap) {
      ASSIGN_OR_RETURN(CharsMap map, CharsMap::Parse(step.content));
      normalizer.maps_.push_back(std::move(map));
    } else if (!IsValidUtf8(step.pattern) || !IsValidUtf8(step.content)) {
      return absl::InvalidArgumentError("tokenizer: a normalizer's text is not valid UTF-8");
    }
    normalizer.steps_.push_back(step);
    if (step.kind == Kind::kCharsMap) normalizer.steps_.back().content.clear();
  }
  return normalizer;
}

std::string Normalizer::Apply(std::string_view text) const {
  std::string out(text);
  size_t map = 0;
  for (const NormalizerStep& step : steps_) {
    out = step.kind == Kind::kCharsMap ? maps_[map++].Apply(out) : ApplyStep(step, out);
  }
  return out;
}

}  // namespace sluice
