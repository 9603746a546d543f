// Finds special tokens written out in text.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sluice/types.h"

namespace sluice {

class SpecialMatcher {
 public:
  struct Match {
    size_t begin, end;  // half-open, in the text
    TokenId token;
  };

  SpecialMatcher() = default;
  // No two texts are equal and none is empty.
  explicit SpecialMatcher(std::vector<std::pair<std::string, TokenId>> specials);

  // The leftmost match that lies in text[from, end), of those the longest. A special token's text
  // costs at most its own length at each position where its first byte stands.
  [[nodiscard]] std::optional<Match> Find(std::string_view text, size_t from, size_t end) const;

 private:
  [[nodiscard]] std::optional<Match> MatchAt(std::string_view text, size_t begin, size_t end) const;

  std::vector<std::pair<std::string, TokenId>> specials_;  // ascending by text
  std::array<bool, 256> is_first_byte_{};
};

}  // namespace sluice
