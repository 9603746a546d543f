#include "tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "absl/strings/escaping.h"
#include "tokenizer/text_tokenizer.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(const TokenizerData& data) {
  constexpr std::array<std::string_view, 4> kModels = {"gpt2", "llama", "t5", "bert"};
  if (std::ranges::find(kModels, data.model) != kModels.end()) return TextTokenizer::Create(data);
  return absl::UnimplementedError(
      fmt::format("tokenizer: model '{}' is not supported; these are: gpt2 (byte-level BPE), llama "
                  "(BPE of characters), t5 (unigram), bert (WordPiece)",
                  absl::CHexEscape(data.model.substr(0, 64))));
}

}  // namespace sluice
