// Reads what tests/golden/make_tokenizer.py writes, and the default model's tokenizer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sluice/types.h"
#include "tokenizer/tokenizer.h"

namespace sluice {

// The rows of tests/golden/<name>, cut at tabs, each column unescaped. Ends the test program with a
// message if the file is not there or malformed.
[[nodiscard]] std::vector<std::vector<std::string>> ReadGoldenRows(const std::string& name);

// "12 7 3" as numbers.
[[nodiscard]] std::vector<TokenId> ParseIds(const std::string& column);

// The tokenizer of the file named by SLUICE_MODEL, else of the default model in the cache folder.
// Ends the test program with a message if there is none.
[[nodiscard]] const Tokenizer& DefaultModelTokenizer();

}  // namespace sluice
