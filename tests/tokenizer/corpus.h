// The strings that tests/golden/make_tokenizers.py had tokenized: more than 20,000, in all scripts.
#pragma once

#include <string>
#include <vector>

namespace sluice {

// The texts of tokenizer_smollm2.tsv, then combinations of 1 to 6 short ones of them, which both
// sides draw with SplitMix64.
[[nodiscard]] const std::vector<std::string>& TokenizerCorpus();

}  // namespace sluice
