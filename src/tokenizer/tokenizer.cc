#include "tokenizer/tokenizer.h"

#include <fmt/format.h>

#include "absl/strings/escaping.h"
#include "base/utf8.h"
#include "tokenizer/byte_level_bpe.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(const TokenizerData& data) {
  if (data.model == "gpt2") return ByteLevelBpe::Create(data);
  return absl::UnimplementedError(
      fmt::format("tokenizer: model '{}' is not supported; this one is: gpt2 (byte-level BPE)",
                  absl::CHexEscape(data.model.substr(0, 64))));
}

std::string Tokenizer::Decode(std::span<const TokenId> tokens, bool skip_special) const {
  std::string bytes;
  for (const TokenId token : tokens) {
    if (!skip_special || !IsSpecial(token)) bytes += TokenBytes(token);
  }
  return ReplaceInvalidUtf8(bytes);
}

}  // namespace sluice
