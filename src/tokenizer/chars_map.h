// SentencePiece's compiled normalisation rules (precompiled_charsmap): a double-array trie from
// character sequences to what replaces them.
// Source: "An Efficient Implementation of Trie Structures", Aoe et al. 1992, in the layout that
// darts-clone writes; the file is the trie's size in bytes, the trie, then the replacements, each
// ended by a zero byte.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice {

class CharsMap {
 public:
  // Errors: InvalidArgument for sizes that do not fit.
  static absl::StatusOr<CharsMap> Parse(std::string_view bytes);

  // `text` with the rules applied as the `tokenizers` package does: to each grapheme of less than 6
  // bytes as a whole, else to its characters; the shortest rule that begins a piece replaces all of
  // it. Valid UTF-8 gives valid UTF-8. O(n).
  [[nodiscard]] std::string Apply(std::string_view text) const;

 private:
  // What replaces all of `piece`, if a rule begins it. Cycles and offsets outside the trie in a
  // hostile file end the search.
  [[nodiscard]] std::optional<std::string_view> Find(std::string_view piece) const;

  std::vector<uint32_t> trie_;
  std::string replacements_;
};

}  // namespace sluice
