#include "tokenizer/special_matcher.h"

#include <algorithm>
#include <cstdint>

#include "base/utf8.h"
#include "tokenizer/char_class.h"
#include "tokenizer/unicode_sets.h"

namespace sluice {
namespace {

// The character that ends at `end`, or nothing where the bytes before are none.
std::string_view CharacterBefore(std::string_view text, size_t end) {
  size_t begin = end;
  while (begin > 0 && end - begin < 4) {
    --begin;
    if ((static_cast<uint8_t>(text[begin]) & 0xC0) != 0x80) break;
  }
  const std::string_view character = text.substr(begin, end - begin);
  return IsValidUtf8(character) ? character : "";
}

std::string_view CharacterAfter(std::string_view text, size_t begin) {
  if (begin >= text.size()) return "";
  const Utf8Unit unit = FirstUtf8Unit(text.substr(begin));
  if (unit.kind != Utf8Unit::Kind::kCharacter) return "";
  return text.substr(begin, unit.length);
}

bool IsSpace(std::string_view character) {
  return !character.empty() && CharacterAt(character.data()).kind == CharKind::kSpace;
}

bool IsWordCharacter(std::string_view character) {
  size_t length = 0;
  return !character.empty() && Contains(kWordCharacters, DecodeValidUtf8(character.data(), length));
}

}  // namespace

SpecialMatcher::SpecialMatcher(std::vector<Special> specials) : specials_(std::move(specials)) {
  std::ranges::sort(specials_, {}, &Special::text);
  for (const Special& special : specials_) {
    is_first_byte_[static_cast<uint8_t>(special.text[0])] = true;
  }
}

std::optional<SpecialMatcher::Match> SpecialMatcher::Find(std::string_view text, size_t from,
                                                          size_t until, size_t allowed_begin,
                                                          size_t allowed_end) const {
  for (size_t begin = from; begin < until; ++begin) {
    if (!is_first_byte_[static_cast<uint8_t>(text[begin])]) continue;
    const Special* special = MatchAt(text, begin, allowed_begin, allowed_end);
    if (special == nullptr) continue;
    Match match = {begin, begin + special->text.size(), special->token};
    if (special->single_word && (IsWordCharacter(CharacterBefore(text, match.begin)) ||
                                 IsWordCharacter(CharacterAfter(text, match.end)))) {
      begin = match.end - 1;
      continue;
    }
    while (special->lstrip && match.begin > from) {
      const std::string_view before = CharacterBefore(text, match.begin);
      if (!IsSpace(before) || match.begin - before.size() < from) break;
      match.begin -= before.size();
    }
    while (special->rstrip && IsSpace(CharacterAfter(text, match.end))) {
      match.end += CharacterAfter(text, match.end).size();
    }
    return match;
  }
  return std::nullopt;
}

// [first, last) are the specials that begin with text[begin, begin + depth); one that ends there
// comes first, being the smallest.
const SpecialMatcher::Special* SpecialMatcher::MatchAt(std::string_view text, size_t begin,
                                                       size_t allowed_begin,
                                                       size_t allowed_end) const {
  const Special* longest = nullptr;
  auto first = specials_.begin();
  auto last = specials_.end();
  for (size_t depth = 0; begin + depth < text.size(); ++depth) {
    const auto byte = static_cast<uint8_t>(text[begin + depth]);
    const auto at_depth = [depth](const Special& special) {
      return depth < special.text.size() ? static_cast<uint8_t>(special.text[depth]) : -1;
    };
    first = std::partition_point(first, last, [&](const auto& s) { return at_depth(s) < byte; });
    last = std::partition_point(first, last, [&](const auto& s) { return at_depth(s) == byte; });
    if (first == last) break;
    if (first->text.size() != depth + 1) continue;
    const bool allowed = begin >= allowed_begin && begin + depth + 1 <= allowed_end;
    if (allowed || first->anywhere) longest = &*first;
  }
  return longest;
}

}  // namespace sluice
