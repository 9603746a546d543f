#include "tokenizer/special_matcher.h"

#include <algorithm>
#include <cstdint>

namespace sluice {

SpecialMatcher::SpecialMatcher(std::vector<std::pair<std::string, TokenId>> specials)
    : specials_(std::move(specials)) {
  std::sort(specials_.begin(), specials_.end());
  for (const auto& [text, token] : specials_) is_first_byte_[static_cast<uint8_t>(text[0])] = true;
}

std::optional<SpecialMatcher::Match> SpecialMatcher::Find(std::string_view text, size_t from,
                                                          size_t end) const {
  for (size_t begin = from; begin < end; ++begin) {
    if (!is_first_byte_[static_cast<uint8_t>(text[begin])]) continue;
    const std::optional<Match> match = MatchAt(text, begin, end);
    if (match.has_value()) return match;
  }
  return std::nullopt;
}

// [first, last) are the specials that begin with text[begin, begin + depth); one that ends there
// comes first, being the smallest.
std::optional<SpecialMatcher::Match> SpecialMatcher::MatchAt(std::string_view text, size_t begin,
                                                             size_t end) const {
  std::optional<Match> longest;
  auto first = specials_.begin();
  auto last = specials_.end();
  for (size_t depth = 0; begin + depth < end; ++depth) {
    const auto byte = static_cast<uint8_t>(text[begin + depth]);
    const auto at_depth = [depth](const auto& special) {
      return depth < special.first.size() ? static_cast<uint8_t>(special.first[depth]) : -1;
    };
    first = std::partition_point(first, last, [&](const auto& s) { return at_depth(s) < byte; });
    last = std::partition_point(first, last, [&](const auto& s) { return at_depth(s) == byte; });
    if (first == last) break;
    if (first->first.size() == depth + 1) {
      longest = Match{begin, begin + depth + 1, first->second};
    }
  }
  return longest;
}

}  // namespace sluice
