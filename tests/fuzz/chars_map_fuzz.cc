// Any bytes as SentencePiece's compiled normalisation rules, and any text through them. The first
// byte is the text's length.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/chars_map.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t length = std::min<size_t>(data[0], input.size());
  const std::string text = sluice::ReplaceInvalidUtf8(input.substr(0, length));
  const auto rules = sluice::CharsMap::Parse(std::string(input.substr(length)));
  if (!rules.ok()) return 0;
  SLUICE_CHECK(sluice::IsValidUtf8(rules->Apply(text)), "a broken character");
  return 0;
}
