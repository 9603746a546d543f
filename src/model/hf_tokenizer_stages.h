// The stages of a tokenizer.json: how text is rewritten, cut, surrounded and put together again.
#pragma once

#include <functional>
#include <string_view>

#include "absl/status/status.h"
#include "model/hf_json.h"
#include "sluice/tokenizer_data.h"

namespace sluice {

// Each reads one part of the file's root into `data`; a missing part changes nothing. Errors:
// InvalidArgument for a wrong shape; Unimplemented, by its type's name, for one not supported.
absl::Status ReadHfNormalizer(const HfObject& root, TokenizerData& data);
absl::Status ReadHfPreTokenizer(const HfObject& root, TokenizerData& data);
absl::Status ReadHfDecoder(const HfObject& root, TokenizerData& data);

// find: the id of a token's text, or -1.
using FindToken = std::function<TokenId(std::string_view text)>;
absl::Status ReadHfPostProcessor(const HfObject& root, const FindToken& find, TokenizerData& data);

}  // namespace sluice
