// Encodes arbitrary bytes, cut into segments at arbitrary places, and decodes them again. The
// vocabulary has every byte, so the text must come back with only its invalid UTF-8 replaced, whole
// or token by token. The first byte picks the pattern or, beyond those, has the rest read as a
// vocabulary, which Create must refuse or serve.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "tests/tokenizer/small_vocabulary.h"
#include "tokenizer/tokenizer.h"

namespace sluice {
namespace {

// None of them normalises the text.
constexpr std::string_view kPatterns[] = {
    "gpt-2",  "smollm", "llama-bpe",      "stablelm2",   "seed-coder", "minicpm5",    "tekken",
    "gpt-4o", "bloom",  "deepseek-coder", "deepseek-v3", "falcon",     "deepseek-llm"};
constexpr std::string_view kModels[] = {"gpt2", "llama", "t5", "bert"};

std::unique_ptr<Tokenizer> MakeTokenizer(std::string_view pattern) {
  TokenizerData data = SmallVocabulary(
      {"a b", "ab c", "_ a", "_a b", "a a", "aa aa", "_ _", "__ __", "' s", "1 2", "e r", "er e"},
      {{"<|im_start|>", TokenType::kControl},
       {"<|im_end|>", TokenType::kControl},
       {"<|im", TokenType::kUserDefined},
       {"中", TokenType::kUserDefined}});
  data.pre_tokenizer = std::string(pattern);
  auto tokenizer = Tokenizer::Create(data);
  SLUICE_CHECK(tokenizer.ok(), "{}", std::string(tokenizer.status().message()));
  return *std::move(tokenizer);
}

// Each segment: a byte whose lowest bit is special_allowed and the rest its length, then its text.
std::vector<PromptSegment> ReadSegments(std::string_view input) {
  std::vector<PromptSegment> segments;
  while (!input.empty()) {
    const auto head = static_cast<uint8_t>(input[0]);
    const std::string_view text = input.substr(1, head / 2);
    segments.push_back({Text(std::string(text)), head % 2 != 0});
    input.remove_prefix(1 + text.size());
  }
  return segments;
}

void CheckRoundTrip(const Tokenizer& tokenizer, const std::vector<PromptSegment>& segments) {
  std::string joined;
  bool special_allowed = false;
  for (const PromptSegment& segment : segments) {
    joined += segment.text.Reveal();
    special_allowed = special_allowed || segment.special_allowed;
  }
  const std::vector<TokenId> tokens = tokenizer.Encode(segments);
  const std::string expected = ReplaceInvalidUtf8(joined);
  SLUICE_CHECK(tokenizer.Decode(tokens, false) == expected, "decoding gives another text");
  Utf8Stream stream;
  std::string streamed;
  for (const TokenId token : tokens) {
    SLUICE_CHECK(special_allowed || !tokenizer.IsSpecial(token), "special token {}", token);
    const std::string piece = stream.Append(tokenizer.TokenBytes(token));
    SLUICE_CHECK(IsValidUtf8(piece) && stream.num_held() <= 3, "a broken character");
    streamed += piece;
  }
  SLUICE_CHECK(streamed + stream.Flush() == expected, "streaming gives another text");
}

// Two bytes: the model and its steps, then the flags. Lines: "type token" or, from the first empty
// line on, merges.
TokenizerData ReadVocabulary(std::string_view input) {
  TokenizerData data;
  const auto byte = [&](size_t i) {
    return i < input.size() ? static_cast<uint8_t>(input[i]) : uint8_t{0};
  };
  data.model = kModels[byte(0) % 4];
  data.pre_tokenizer = "llama-bpe";
  data.has_stages = byte(0) / 4 % 2 != 0;
  data.normalizer = {{.kind = static_cast<NormalizerStep::Kind>(byte(0) / 8 % 11),
                      .pattern = " ",
                      .content = "\u2581"}};
  data.pre_tokenizer_steps = {{.kind = static_cast<PreTokenizerStep::Kind>(2 + byte(1) % 7),
                               .pattern = "\u2581",
                               .single = byte(1) / 8 % 2 != 0}};
  data.decoder = {
      .kind = static_cast<DecoderRule::Kind>(byte(1) / 16 % 4), .mark = "##", .cleanup = true};
  data.byte_fallback = byte(1) / 64 % 2 != 0;
  input.remove_prefix(std::min<size_t>(input.size(), 2));
  bool merges = false;
  while (!input.empty()) {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string line(input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
    if (merges) {
      data.merges.push_back(line);
    } else if (line.empty()) {
      merges = true;
    } else {
      data.types.push_back(static_cast<TokenType>(static_cast<uint8_t>(line[0]) % 6));
      data.tokens.push_back(line.substr(1));
      data.scores.push_back(-static_cast<double>(line.size() % 7));
    }
  }
  return data;
}

void FuzzOne(std::string_view input) {
  static const std::vector<std::unique_ptr<Tokenizer>> tokenizers = [] {
    std::vector<std::unique_ptr<Tokenizer>> made;
    for (const std::string_view pattern : kPatterns) made.push_back(MakeTokenizer(pattern));
    return made;
  }();
  if (input.empty()) return;
  const size_t mode = static_cast<uint8_t>(input[0]) % (tokenizers.size() + 4);
  input.remove_prefix(1);
  if (mode < tokenizers.size()) {
    CheckRoundTrip(*tokenizers[mode], ReadSegments(input));
    return;
  }
  const auto tokenizer = Tokenizer::Create(ReadVocabulary(input));
  if (!tokenizer.ok()) return;
  for (const bool special_allowed : {false, true}) {
    const PromptSegment segments[] = {{Text(std::string(input)), special_allowed}};
    const std::string text = (*tokenizer)->Decode((*tokenizer)->Encode(segments), false);
    SLUICE_CHECK(IsValidUtf8(text), "a broken character");
  }
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sluice::FuzzOne(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
