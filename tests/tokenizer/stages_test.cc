// The parts of a tokenizer that goldens of ids do not reach: texts in pairs, decoding, limits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<Tokenizer> MustCreate(const TokenizerData& data) {
  auto tokenizer = Tokenizer::Create(data);
  EXPECT_TRUE(tokenizer.ok()) << std::string(tokenizer.status().message());
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::vector<TokenId> EncodeText(const Tokenizer& tokenizer, const std::string& text,
                                bool special_allowed = false) {
  const PromptSegment segment = {Text(text), special_allowed};
  return tokenizer.Encode({&segment, 1});
}

TokenizerData Vocabulary(std::string model, std::vector<std::string> tokens) {
  TokenizerData data;
  data.model = std::move(model);
  data.has_stages = true;
  data.types.assign(tokens.size(), TokenType::kNormal);
  data.tokens = std::move(tokens);
  return data;
}

// 0 [CLS], 1 [SEP], 2 [UNK], 3 un, 4 ##aff, 5 ##able, 6 hello, 7 comma
TokenizerData Bert() {
  TokenizerData data =
      Vocabulary("bert", {"[CLS]", "[SEP]", "[UNK]", "un", "##aff", "##able", "hello", ",", "##a"});
  for (const TokenId id : {0, 1}) data.types[id] = TokenType::kControl;
  data.types[2] = TokenType::kUnknown;
  data.unknown = 2;
  data.normalizer.push_back({.kind = NormalizerStep::Kind::kBert});
  data.pre_tokenizer_steps.push_back({.kind = PreTokenizerStep::Kind::kBert});
  data.decoder = {.kind = DecoderRule::Kind::kWordPiece, .mark = "##", .cleanup = true};
  using Kind = TemplatePiece::Kind;
  data.single = {{.token = 0}, {.kind = Kind::kFirst}, {.token = 1}};
  data.pair = {{.token = 0},
               {.kind = Kind::kFirst},
               {.token = 1},
               {.kind = Kind::kSecond, .type_id = 1},
               {.token = 1, .type_id = 1}};
  return data;
}

TEST(WordPiece, TakesTheLongestPiecesOrTheWholeWordAsUnknown) {
  const auto tokenizer = MustCreate(Bert());
  EXPECT_THAT(EncodeText(*tokenizer, "Unaffable, HÉLLO"), ElementsAre(3, 4, 5, 7, 6));
  EXPECT_THAT(EncodeText(*tokenizer, "unaffx hello"), ElementsAre(2, 6));
  EXPECT_THAT(EncodeText(*tokenizer, "un" + std::string(98, 'a')).size(), 99);
  EXPECT_THAT(EncodeText(*tokenizer, "un" + std::string(99, 'a')), ElementsAre(2));
}

TEST(WordPiece, TextsAndPairsHaveTheirSpecialTokensAndTypes) {
  const auto tokenizer = MustCreate(Bert());
  const Text first("hello [SEP]");
  const Text second("un");
  const EncodedTexts one = tokenizer->EncodeTexts(second, nullptr, 100);
  EXPECT_THAT(one.tokens, ElementsAre(0, 3, 1));
  EXPECT_THAT(one.type_ids, ElementsAre(0, 0, 0));
  const EncodedTexts two = tokenizer->EncodeTexts(first, &second, 100);
  // "[SEP]" in a client's text is three words that the vocabulary lacks.
  EXPECT_THAT(two.tokens, ElementsAre(0, 6, 2, 2, 2, 1, 3, 1));
  EXPECT_THAT(two.type_ids, ElementsAre(0, 0, 0, 0, 0, 0, 1, 1));
}

// The counts are those of the `tokenizers` package for as many words, truncated longest first.
TEST(WordPiece, TextsTooLongLoseTheLongerOnesEndFirst) {
  const struct {
    int first, second;
    size_t max;
    int firsts, seconds;  // left
  } kCases[] = {{5, 5, 20, 5, 5}, {9, 2, 10, 5, 2}, {2, 9, 10, 2, 5}, {9, 8, 10, 4, 3},
                {8, 9, 10, 3, 4}, {5, 5, 10, 3, 4}, {9, 4, 10, 4, 3}, {4, 9, 10, 3, 4},
                {9, 9, 11, 4, 4}, {1, 9, 4, 0, 1},  {9, 1, 4, 1, 0},  {6, 9, 10, 3, 4}};
  const auto tokenizer = MustCreate(Bert());
  for (const auto& c : kCases) {
    std::string a, b;
    for (int i = 0; i < c.first; ++i) a += "un ";
    for (int i = 0; i < c.second; ++i) b += "hello ";
    const Text first(a), second(b);
    const std::vector<TokenId> tokens = tokenizer->EncodeTexts(first, &second, c.max).tokens;
    EXPECT_EQ(std::ranges::count(tokens, 3), c.firsts) << a << b << c.max;
    EXPECT_EQ(std::ranges::count(tokens, 6), c.seconds) << a << b << c.max;
    EXPECT_EQ(tokens.back(), 1) << "the frame is whole";
  }
}

TEST(WordPiece, DecodingJoinsPiecesAndPutsNoSpaceBeforePunctuation) {
  const auto tokenizer = MustCreate(Bert());
  const TokenId tokens[] = {0, 6, 7, 3, 4, 1};
  EXPECT_EQ(tokenizer->Decode(tokens, true), "hello, unaff");
  EXPECT_EQ(tokenizer->Decode(tokens, false), "[CLS] hello, unaff [SEP]");
  EXPECT_EQ(tokenizer->TokenBytes(6), " hello");
  EXPECT_EQ(tokenizer->TokenBytes(4), "aff");
}

// 0 <unk>, 1 <s>, 2.. bytes 0xC3 and 0xA9, 4 ▁, 5 a, 6 b, 7 ▁a, 8 ab, 9 ▁ab
TokenizerData Llama() {
  TokenizerData data = Vocabulary("llama", {"<unk>", "<s>", "<0xC3>", "<0xA9>", "\u2581", "a", "b",
                                            "\u2581a", "ab", "\u2581ab"});
  data.types[0] = TokenType::kUnknown;
  data.types[1] = TokenType::kControl;
  data.types[2] = data.types[3] = TokenType::kByte;
  data.unknown = 0;
  data.scores = {0, 0, 0, 0, -3, -4, -5, -1, 0, -2};
  data.byte_fallback = data.fuse_unknown = true;
  data.normalizer = {{.kind = NormalizerStep::Kind::kPrepend, .content = "\u2581"},
                     {.kind = NormalizerStep::Kind::kReplace, .pattern = " ", .content = "\u2581"}};
  data.decoder = {
      .kind = DecoderRule::Kind::kSpaceMark, .mark = "\u2581", .strip_first_space = true};
  return data;
}

TEST(CharacterBpe, ScoresSayWhatMergesFirst) {
  const auto tokenizer = MustCreate(Llama());
  // "ab" has the highest score, so "▁a" never comes to be.
  EXPECT_THAT(EncodeText(*tokenizer, "ab"), ElementsAre(9));
  EXPECT_THAT(EncodeText(*tokenizer, "a b"), ElementsAre(7, 4, 6));
}

TEST(CharacterBpe, CharactersWithoutATokenBecomeBytesOrOneUnknownToken) {
  const auto tokenizer = MustCreate(Llama());
  EXPECT_THAT(EncodeText(*tokenizer, "aé"), ElementsAre(7, 2, 3));
  EXPECT_THAT(EncodeText(*tokenizer, "axyz\xF0"), ElementsAre(7, 0));
  TokenizerData data = Llama();
  data.fuse_unknown = false;
  EXPECT_THAT(EncodeText(*MustCreate(data), "axy"), ElementsAre(7, 0, 0));
}

TEST(CharacterBpe, EachTextBetweenSpecialTokensBeginsWithAMark) {
  const auto tokenizer = MustCreate(Llama());
  EXPECT_THAT(EncodeText(*tokenizer, "a<s>a", true), ElementsAre(7, 1, 7));
  EXPECT_THAT(EncodeText(*tokenizer, "<s>", true), ElementsAre(1));
}

TEST(CharacterBpe, DecodingDropsTheFirstSpaceOfAWholeTextOnly) {
  const auto tokenizer = MustCreate(Llama());
  const TokenId tokens[] = {1, 7, 9, 2, 3, 2};
  EXPECT_EQ(tokenizer->Decode(tokens, true), "a abé\uFFFD");
  EXPECT_EQ(tokenizer->Decode(tokens, false), "<s> a abé\uFFFD");
  EXPECT_EQ(tokenizer->TokenBytes(7), " a");
  EXPECT_EQ(tokenizer->TokenBytes(2), "\xC3");
}

TEST(Unigram, TakesTheCutWithTheLargestSum) {
  TokenizerData data = Vocabulary("t5", {"<unk>", "a", "b", "ab", "abb"});
  data.types[0] = TokenType::kUnknown;
  data.unknown = 0;
  data.scores = {0, -1, -1, -3, -1.5};
  const auto tokenizer = MustCreate(data);
  EXPECT_THAT(EncodeText(*tokenizer, "ab"), ElementsAre(1, 2));
  EXPECT_THAT(EncodeText(*tokenizer, "aabb"), ElementsAre(1, 4));
  EXPECT_THAT(EncodeText(*tokenizer, "xya<unk>"), ElementsAre(0, 1, 0));
}

// The number of tokens shows that each text was read to its end; that this ends at all shows that
// no step takes time quadratic in a run.
TEST(Stages, HugeHostileTextsAreEncodedByEveryModel) {
  const size_t size = 1 << 20;
  std::string marks = "a";
  while (marks.size() < size) marks += "\u0301\u0323";
  for (TokenizerData data : {Bert(), Llama()}) {
    data.normalizer.push_back({.kind = NormalizerStep::Kind::kNfkc});
    const auto tokenizer = MustCreate(data);
    for (const std::string& text : {std::string(size, 'a'), std::string(size, ' '), marks,
                                    std::string(size, ','), std::string(size, '\xF0')}) {
      EXPECT_LE(EncodeText(*tokenizer, text, true).size(), 3 * size + 1);
    }
  }
}

TEST(Stages, UserDefinedWhiteSpaceIsTextEverywhere) {
  TokenizerData data = Llama();
  data.tokens.insert(data.tokens.end(), {"\n\n", "<x>"});
  data.types.insert(data.types.end(), {TokenType::kUserDefined, TokenType::kUserDefined});
  data.scores.resize(data.tokens.size());
  const auto tokenizer = MustCreate(data);
  EXPECT_THAT(EncodeText(*tokenizer, "a\n\n"), ElementsAre(7, 10));
  EXPECT_THAT(EncodeText(*tokenizer, "<x>", true), ElementsAre(11));
  EXPECT_THAT(EncodeText(*tokenizer, "<x>"), ElementsAre(4, 0));
}

TEST(Stages, WhatIsNotSupportedIsRefusedByName) {
  TokenizerData data = Bert();
  data.pre_tokenizer_steps = {{.kind = PreTokenizerStep::Kind::kRegex, .pattern = "(?<=x)\n"}};
  EXPECT_THAT(std::string(Tokenizer::Create(data).status().message()), HasSubstr("'(?<=x)\\n'"));
  data = Bert();
  data.normalizer = {{.kind = NormalizerStep::Kind::kCharsMap, .content = "\xFF\xFF\xFF\xFF..."}};
  EXPECT_THAT(std::string(Tokenizer::Create(data).status().message()),
              HasSubstr("a trie of 4294967295 bytes in 7"));
  data = Bert();
  data.pair[0].token = 99;
  EXPECT_THAT(std::string(Tokenizer::Create(data).status().message()),
              HasSubstr("the template's token is 99"));
  data = Vocabulary("t5", {"a"});
  EXPECT_THAT(std::string(Tokenizer::Create(data).status().message()), HasSubstr("no scores"));
}

}  // namespace
}  // namespace sluice
