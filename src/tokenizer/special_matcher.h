// Finds added tokens written out in text: control tokens, and words that a model's makers added.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/types.h"

namespace sluice {

class SpecialMatcher {
 public:
  struct Special {
    std::string text;
    TokenId token = -1;
    bool anywhere = false;                // also where special tokens are not allowed
    bool lstrip = false, rstrip = false;  // white space before or after it belongs to it
    bool single_word = false;             // only with no word character on either side
  };
  struct Match {
    size_t begin, end;  // half-open, in the text
    TokenId token;
  };

  SpecialMatcher() = default;
  // No two texts are equal and none is empty.
  explicit SpecialMatcher(std::vector<Special> specials);

  [[nodiscard]] bool empty() const { return specials_.empty(); }

  // The leftmost match that begins in [from, until), of those the longest: of all specials where
  // they lie in text[allowed_begin, allowed_end), elsewhere of those that are `anywhere`. A special
  // token's text costs at most its own length at each position where its first byte stands.
  [[nodiscard]] std::optional<Match> Find(std::string_view text, size_t from, size_t until,
                                          size_t allowed_begin, size_t allowed_end) const;

 private:
  [[nodiscard]] const Special* MatchAt(std::string_view text, size_t begin, size_t allowed_begin,
                                       size_t allowed_end) const;

  std::vector<Special> specials_;  // ascending by text
  std::array<bool, 256> is_first_byte_{};
};

}  // namespace sluice
