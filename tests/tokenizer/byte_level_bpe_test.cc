// Byte-level BPE by hand-made vocabularies, and what every tokenizer refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/tokenizer/small_vocabulary.h"
#include "tokenizer/tokenizer.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::unique_ptr<Tokenizer> MustCreate(const TokenizerData& data) {
  auto tokenizer = Tokenizer::Create(data);
  EXPECT_TRUE(tokenizer.ok()) << std::string(tokenizer.status().message());
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::vector<TokenId> EncodeText(const Tokenizer& tokenizer, const std::string& text,
                                bool special_allowed = false) {
  const PromptSegment segment = {Text(text), special_allowed};
  return tokenizer.Encode(std::span(&segment, 1));
}

// 256 "ab", 257 "abc", 258 "_a", then the special tokens 259 ...
TokenizerData Abc() {
  return SmallVocabulary({"a b", "ab c", "_ a"}, {{"<|x|>", TokenType::kControl},
                                                  {"<|x|>y", TokenType::kControl},
                                                  {"<tool>", TokenType::kUserDefined},
                                                  {"<unk>", TokenType::kUnknown},
                                                  {"[PAD]", TokenType::kUnused}});
}

TEST(ByteLevelBpe, MergesTheLowestRankFirst) {
  const auto tokenizer = MustCreate(Abc());
  EXPECT_THAT(EncodeText(*tokenizer, "abcab ab"), ElementsAre(257, 256, ' ', 256));
  EXPECT_THAT(EncodeText(*tokenizer, "x a"), ElementsAre('x', 258));
  EXPECT_THAT(EncodeText(*tokenizer, ""), IsEmpty());
  EXPECT_THAT(tokenizer->Encode({}), IsEmpty());
}

TEST(ByteLevelBpe, SpecialTokensCountOnlyWhereEveryByteAllowsThem) {
  const auto tokenizer = MustCreate(Abc());
  EXPECT_THAT(EncodeText(*tokenizer, "a<|x|>b", true), ElementsAre('a', 259, 'b'));
  EXPECT_THAT(EncodeText(*tokenizer, "<|x|>", false), ElementsAre('<', '|', 'x', '|', '>'));
  const auto pieces = [&](std::string one, bool one_allowed, std::string two, bool two_allowed) {
    const PromptSegment segments[] = {{Text(std::move(one)), one_allowed},
                                      {Text(std::move(two)), two_allowed}};
    return tokenizer->Encode(segments);
  };
  EXPECT_THAT(pieces("<|x", true, "|>", true), ElementsAre(259));
  EXPECT_THAT(pieces("<|x", true, "|>", false), ElementsAre('<', '|', 'x', '|', '>'));
  EXPECT_THAT(pieces("<|x", false, "|>", true), ElementsAre('<', '|', 'x', '|', '>'));
  EXPECT_THAT(pieces("<|x|>", false, "<|x|>", true), ElementsAre('<', '|', 'x', '|', '>', 259));
  // The longer token would need a byte that does not allow it.
  EXPECT_THAT(pieces("<|x|>", true, "y", false), ElementsAre(259, 'y'));
  EXPECT_THAT(pieces("<|x|>", true, "y", true), ElementsAre(260));
}

TEST(ByteLevelBpe, TextBetweenAllowedSegmentsStaysText) {
  const auto tokenizer = MustCreate(Abc());
  const PromptSegment around[] = {
      {Text("<|x|>"), true}, {Text("<tool>"), false}, {Text("<|x|>"), true}};
  EXPECT_THAT(tokenizer->Encode(around), ElementsAre(259, '<', 't', 'o', 'o', 'l', '>', 259));
  const PromptSegment inside[] = {{Text("<|"), true}, {Text("x"), false}, {Text("|>"), true}};
  EXPECT_THAT(tokenizer->Encode(inside), ElementsAre('<', '|', 'x', '|', '>'));
}

TEST(ByteLevelBpe, AnEmptySegmentBetweenTwoAllowedOnesDoesNotPartThem) {
  const auto tokenizer = MustCreate(Abc());
  const PromptSegment segments[] = {{Text("<|"), true}, {Text(""), false}, {Text("x|>"), true}};
  EXPECT_THAT(tokenizer->Encode(segments), ElementsAre(259));
}

TEST(ByteLevelBpe, MergesAcrossSegmentBordersButNotAcrossSpecialTokens) {
  const auto tokenizer = MustCreate(Abc());
  const PromptSegment segments[] = {{Text("a"), true}, {Text("b"), false}, {Text("c"), true}};
  EXPECT_THAT(tokenizer->Encode(segments), ElementsAre(257));
  EXPECT_THAT(EncodeText(*tokenizer, "a<|x|>b", true), ElementsAre('a', 259, 'b'));
}

TEST(ByteLevelBpe, ControlAndUnknownTokensAreSpecialUserDefinedOnesAreText) {
  const auto tokenizer = MustCreate(Abc());
  EXPECT_THAT(EncodeText(*tokenizer, "<tool><unk>[PAD]", true),
              ElementsAre(261, 262, '[', 'P', 'A', 'D', ']'));
  EXPECT_TRUE(tokenizer->IsSpecial(259));
  EXPECT_FALSE(tokenizer->IsSpecial(261));
  EXPECT_TRUE(tokenizer->IsSpecial(262));
  EXPECT_FALSE(tokenizer->IsSpecial('a'));
  const TokenId tokens[] = {257, 259, 261, 262};
  EXPECT_EQ(tokenizer->Decode(tokens, false), "abc<|x|><tool><unk>");
  EXPECT_EQ(tokenizer->Decode(tokens, true), "abc<tool>");
}

TEST(ByteLevelBpe, IdsOutsideTheVocabularyAreNothing) {
  const auto tokenizer = MustCreate(Abc());
  EXPECT_EQ(tokenizer->vocab_size(), 264);
  for (const TokenId token : {-1, 264, INT32_MIN, INT32_MAX}) {
    EXPECT_EQ(tokenizer->TokenBytes(token), "");
    EXPECT_FALSE(tokenizer->IsSpecial(token));
  }
}

TEST(ByteLevelBpe, TokensStandForRawBytes) {
  const auto tokenizer = MustCreate(Abc());
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer->TokenBytes(byte), std::string(1, static_cast<char>(byte)));
  }
  const TokenId tokens[] = {0xE2, 0x82, 0xAC, 0xE2, 'x'};
  EXPECT_EQ(tokenizer->Decode(tokens, false), "€\uFFFDx");
}

TEST(ByteLevelBpe, AByteWithoutATokenIsLeftOutBeforeMerging) {
  TokenizerData data = Abc();
  data.types[0x01] = TokenType::kUnused;
  EXPECT_THAT(EncodeText(*MustCreate(data), "a\x01z"), ElementsAre('a', 'z'));
  EXPECT_THAT(EncodeText(*MustCreate(data), "\x01"), IsEmpty());
}

TEST(ByteLevelBpe, LlamaPatternsTakeWholeWordsBeforeMerging) {
  // No merge makes "abcd", but it is a token.
  TokenizerData data = SmallVocabulary({"a b", "c d"}, {{"abcd", TokenType::kNormal}});
  EXPECT_THAT(EncodeText(*MustCreate(data), "abcd"), ElementsAre(256, 257));
  data.pre_tokenizer = "llama-bpe";
  EXPECT_THAT(EncodeText(*MustCreate(data), "abcd"), ElementsAre(258));
  EXPECT_THAT(EncodeText(*MustCreate(data), "abcdd"), ElementsAre(256, 257, 'd'));
}

TEST(ByteLevelBpe, HugeHostileTextsAreEncoded) {
  const auto tokenizer = MustCreate(Abc());
  const size_t size = 1 << 20;
  EXPECT_EQ(EncodeText(*tokenizer, std::string(size, 'a')).size(), size);
  EXPECT_EQ(EncodeText(*tokenizer, std::string(size, ' ') + "x").size(), size + 1);
  EXPECT_EQ(EncodeText(*tokenizer, std::string(size, '<'), true).size(), size);
  EXPECT_EQ(EncodeText(*tokenizer, std::string(size, '\xF0')).size(), 3 * size);
  std::string almost;
  while (almost.size() < size) almost += "<|x|";
  EXPECT_EQ(EncodeText(*tokenizer, almost, true).size(), almost.size());
}

struct Refusal {
  std::string name;
  std::function<void(TokenizerData&)> spoil;
  std::string message;
};

TEST(ByteLevelBpe, InconsistentDataIsRefusedInOneSentence) {
  const Refusal refusals[] = {
      {"model", [](auto& d) { d.model = "rwkv\n"; }, "model 'rwkv\\n' is not supported"},
      {"pattern", [](auto& d) { d.pre_tokenizer = "gpt-3"; },
       "pre-tokenizer 'gpt-3' is not supported; these are: default, gpt-2, a.x-4.0, afmoe"},
      {"space", [](auto& d) { d.add_space_prefix = true; }, "add_space_prefix"},
      {"empty", [](auto& d) { d = {.model = "gpt2", .pre_tokenizer = "gpt-2"}; },
       "the vocabulary is empty"},
      {"types", [](auto& d) { d.types.pop_back(); }, "264 tokens have 263 types"},
      {"scores", [](auto& d) { d.scores = {1.0}; }, "264 tokens have 1 scores"},
      {"bos", [](auto& d) { d.bos = 264; }, "the bos token is 264; the vocabulary has 264 tokens"},
      {"eos", [](auto& d) { d.eos = -2; }, "the eos token is -2"},
      {"unknown", [](auto& d) { d.unknown = INT32_MAX; }, "the unknown token is 2147483647"},
      {"padding", [](auto& d) { d.padding = INT32_MIN; }, "the padding token is -2147483648"},
      {"duplicate", [](auto& d) { d.tokens[9] = d.tokens[7]; }, "tokens 7 and 9 are the same"},
      {"long token", [](auto& d) { d.tokens[7].assign(1 << 17, 'q'); },
       "token 7 has 131072 bytes; at most 65536"},
      {"long special", [](auto& d) { d.tokens[259].assign(300, 'q'); },
       "special token 259 has 300 bytes; 1 to 256"},
      {"empty special", [](auto& d) { d.tokens[259].clear(); }, "special token 259 has 0 bytes"},
      {"broken special", [](auto& d) { d.tokens[259] = "<\xE2\x82"; },
       "special token 259 is not valid UTF-8"},
      {"no space", [](auto& d) { d.merges[1] = "ab"; }, "merge 1 is not two tokens"},
      {"two spaces", [](auto& d) { d.merges[1] = "a b c"; }, "merge 1 is not two tokens"},
      {"left", [](auto& d) { d.merges[1] = "zz c"; }, "merge 1: its left side is no text token"},
      {"empty left", [](auto& d) { d.merges[1] = " c"; },
       "merge 1: its left side is no text token"},
      {"right", [](auto& d) { d.merges[1] = "c zz"; }, "merge 1: its right side is no text token"},
      {"result", [](auto& d) { d.merges[1] = "c c"; }, "merge 1: its result is no text token"},
      {"control", [](auto& d) { d.types[257] = TokenType::kControl; },
       "merge 1: its result is no text token"},
      {"repeated", [](auto& d) { d.merges[1] = "a b"; }, "merge 1 repeats an earlier one"},
      {"many tokens",
       [](auto& d) {
         d.tokens.resize(5'000'000);
         d.types.resize(5'000'000);
       },
       "the vocabulary has 5000000 tokens; at most 4194304"},
      {"many merges", [](auto& d) { d.merges.resize(9'000'000); }, "there are 9000000 merges"},
  };
  for (const Refusal& refusal : refusals) {
    TokenizerData data = Abc();
    refusal.spoil(data);
    const auto tokenizer = Tokenizer::Create(data);
    ASSERT_FALSE(tokenizer.ok()) << refusal.name;
    const std::string message(tokenizer.status().message());
    EXPECT_THAT(message, HasSubstr(refusal.message)) << refusal.name;
    EXPECT_EQ(message.find('\n'), std::string::npos) << refusal.name;
  }
}

TEST(ByteLevelBpe, IdsThatAreNotThereAreFine) {
  TokenizerData data = Abc();
  data.bos = data.eos = 263;
  EXPECT_TRUE(Tokenizer::Create(data).ok());
}

}  // namespace
}  // namespace sluice
