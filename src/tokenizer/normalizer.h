// Rewrites text before it is cut into words, as tokenizer.json's normalizer steps say. Unicode data
// comes from utf8proc (docs/adr/0008); where the `tokenizers` package has a set of its own, from
// unicode_sets.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sluice/tokenizer_data.h"
#include "tokenizer/chars_map.h"

namespace sluice {

class Normalizer {
 public:
  Normalizer() = default;
  // Errors: InvalidArgument for an empty pattern, text that is not UTF-8, or a broken map.
  static absl::StatusOr<Normalizer> Create(const std::vector<NormalizerStep>& steps);

  [[nodiscard]] bool changes_nothing() const { return steps_.empty(); }

  // Valid UTF-8 in and out. O(n log n) whatever the text.
  [[nodiscard]] std::string Apply(std::string_view text) const;

 private:
  std::vector<NormalizerStep> steps_;
  std::vector<CharsMap> maps_;  // of the kCharsMap steps, in their order
};

}  // namespace sluice
