#include "engine/output.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace sluice {
namespace {

// One token a byte, plus multi-byte ones from 256 on; 300 is special.
class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (int b = 0; b < 256; b++) bytes_.emplace_back(1, static_cast<char>(b));
    for (const char* word :
         {"stop", "st", "op", "opera", "xst", "\xF0\x9F", "\x98\x80", "\xE2\x82"})
      bytes_.emplace_back(word);
    bytes_.resize(300, "?");
    bytes_.emplace_back("<end>");
  }
  [[nodiscard]] std::vector<TokenId> Encode(std::span<const PromptSegment>) const override {
    return {};
  }
  [[nodiscard]] EncodedTexts EncodeTexts(const Text&, const Text*, size_t) const override {
    return {};
  }
  [[nodiscard]] std::string Decode(std::span<const TokenId>, bool) const override { return {}; }
  [[nodiscard]] std::string_view TokenBytes(TokenId t) const override { return bytes_[t]; }
  [[nodiscard]] bool IsSpecial(TokenId t) const override { return t == 300; }
  [[nodiscard]] int32_t vocab_size() const override { return static_cast<int32_t>(bytes_.size()); }

 private:
  std::vector<std::string> bytes_;
};

const ByteTokenizer& Bytes() {
  static const ByteTokenizer tokenizer;
  return tokenizer;
}

std::vector<SampledToken> Tokens(const std::string& text) {
  std::vector<SampledToken> tokens;
  for (const char c : text) tokens.push_back({.token = static_cast<unsigned char>(c)});
  return tokens;
}

OutputOptions Stop(std::vector<std::string> stops) {
  OutputOptions options;
  for (std::string& stop : stops) options.stop.emplace_back(std::move(stop));
  return options;
}

struct Result {
  std::string text;
  std::vector<TokenId> tokens;
  bool stopped = false;
  int32_t kept = 0;
};

// Feeds token by token and adds up what a client would hold.
Result Feed(ChoiceOutput& output, const std::vector<SampledToken>& tokens, bool close = true) {
  Result result;
  const auto take = [&](ChoiceOutput::Piece piece) {
    EXPECT_EQ(piece.index, static_cast<int32_t>(result.tokens.size()));
    result.text += piece.content.Reveal();
    result.tokens.insert(result.tokens.end(), piece.tokens.begin(), piece.tokens.end());
    result.stopped = piece.stopped;
    result.kept = piece.num_kept_tokens;
  };
  for (const SampledToken& token : tokens) {
    take(output.Append({&token, 1}));
    if (result.stopped) return result;
  }
  if (close) take(output.Close(nullptr));
  return result;
}

TEST(ChoiceOutput, NoPieceOfAStopStringLeaks) {
  ChoiceOutput output(Bytes(), Stop({"stop"}));
  const Result result = Feed(output, Tokens("abc st sto stop more"));
  EXPECT_EQ(result.text, "abc st sto ");
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.kept, 15);
}

TEST(ChoiceOutput, TextThatOnlyLookedLikeAStopStringComesAtTheEnd) {
  ChoiceOutput output(Bytes(), Stop({"stop"}));
  const Result result = Feed(output, Tokens("sto"));
  EXPECT_EQ(result.text, "sto");
  EXPECT_FALSE(result.stopped);
  EXPECT_EQ(result.tokens.size(), 3U);
}

TEST(ChoiceOutput, AnIntervalHoldsAllButTheFirstTokenBackUntilItIsFull) {
  ChoiceOutput output(Bytes(), {.interval = 3});
  std::vector<size_t> sizes;
  for (const SampledToken& token : Tokens("abcdefgh"))
    sizes.push_back(output.Append({&token, 1}).tokens.size());
  EXPECT_EQ(sizes, (std::vector<size_t>{1, 0, 0, 3, 0, 0, 3, 0}));
  const ChoiceOutput::Piece last = output.Close(nullptr);
  EXPECT_EQ(last.index, 7);
  EXPECT_EQ(last.content, Text("h"));
}

TEST(ChoiceOutput, AStopStringWithinAnIntervalEndsTheChoiceAtOnce) {
  OutputOptions options = Stop({"stop"});
  options.interval = 100;
  ChoiceOutput output(Bytes(), options);
  const Result result = Feed(output, Tokens("abc sto stop more"));
  EXPECT_EQ(result.text, "abc sto ");
  EXPECT_EQ(result.kept, 12);
}

TEST(ChoiceOutput, OverlappingCandidatesAreSearchedFromEveryBeginning) {
  ChoiceOutput output(Bytes(), Stop({"aab"}));
  EXPECT_EQ(Feed(output, Tokens("aaab!")).text, "a");
}

TEST(ChoiceOutput, TheEarliestOfSeveralStopStringsWins) {
  ChoiceOutput output(Bytes(), Stop({"op", "stop", "zz"}));
  const SampledToken whole{.token = 256};  // "stop" completes both at once
  EXPECT_EQ(output.Append({&whole, 1}).content.Reveal(), "");
}

TEST(ChoiceOutput, IncludeStopStringShowsItWhole) {
  OutputOptions options = Stop({"stop"});
  options.include_stop_str_in_output = true;
  ChoiceOutput output(Bytes(), options);
  EXPECT_EQ(Feed(output, Tokens("a stop b")).text, "a stop");
}

TEST(ChoiceOutput, MinTokensIgnoresEarlierStopStrings) {
  OutputOptions options = Stop({"ab"});
  options.min_tokens = 4;
  ChoiceOutput output(Bytes(), options);
  EXPECT_EQ(Feed(output, Tokens("ab.ab.ab")).text, "ab.");
}

TEST(ChoiceOutput, HalfACharacterIsHeldAndAnUnfinishedOneBecomesTheReplacement) {
  ChoiceOutput output(Bytes(), {});
  const SampledToken first{.token = 261}, second{.token = 262}, broken{.token = 263};
  ChoiceOutput::Piece piece = output.Append({&first, 1});
  EXPECT_TRUE(piece.content.empty());
  EXPECT_TRUE(piece.tokens.empty());
  piece = output.Append({&second, 1});
  EXPECT_EQ(piece.content.Reveal(), "\xF0\x9F\x98\x80");
  EXPECT_EQ(piece.tokens, (NewTokens{261, 262}));
  EXPECT_TRUE(output.Append({&broken, 1}).content.empty());
  piece = output.Close(nullptr);
  EXPECT_EQ(piece.content.Reveal(), "\xEF\xBF\xBD");
  EXPECT_EQ(piece.tokens, (NewTokens{263}));
}

TEST(ChoiceOutput, SpecialTokensAndTheStopTokenShowNoText) {
  ChoiceOutput output(Bytes(), {});
  const SampledToken special{.token = 300}, stop{.token = 'x'};
  ChoiceOutput::Piece piece = output.Append({&special, 1});
  EXPECT_TRUE(piece.content.empty());
  EXPECT_EQ(piece.tokens.size(), 1U);
  piece = output.Close(&stop);
  EXPECT_TRUE(piece.content.empty());
  EXPECT_EQ(output.num_tokens(), 2);
}

// Oracle: the whole text, cut at the earliest completed stop string, by a plain search over every
// prefix.
std::string Expected(const std::vector<SampledToken>& tokens,
                     const std::vector<std::string>& stops) {
  std::string text;
  for (const SampledToken& token : tokens) {
    text += Bytes().TokenBytes(token.token);
    size_t best = std::string::npos;
    for (const std::string& stop : stops) best = std::min(best, text.find(stop));
    if (best != std::string::npos) return text.substr(0, best);
  }
  return text;
}

TEST(ChoiceOutput, RandomStreamsEqualACutOfTheWholeText) {
  std::mt19937 random(7);
  for (int round = 0; round < 20000; round++) {
    std::vector<std::string> stops;
    for (unsigned i = 0; i < random() % 3; i++) {
      std::string stop;
      for (unsigned n = 0; n <= random() % 4; n++) stop += static_cast<char>('a' + random() % 2);
      stops.push_back(stop);
    }
    std::vector<SampledToken> tokens;
    for (unsigned n = 0; n < random() % 12; n++)
      tokens.push_back({.token = static_cast<TokenId>('a' + random() % 3)});
    ChoiceOutput stepwise(Bytes(), Stop(stops)), at_once(Bytes(), Stop(stops));
    const Result result = Feed(stepwise, tokens);
    ChoiceOutput::Piece piece = at_once.Append(tokens);
    std::string whole = piece.content.Reveal();
    if (!piece.stopped) whole += at_once.Close(nullptr).content.Reveal();
    ASSERT_EQ(result.text, Expected(tokens, stops)) << "round " << round;
    ASSERT_EQ(whole, result.text) << "round " << round;
  }
}

// Whatever the client holds when it resumes, the rest is what the first run would have sent.
TEST(ChoiceOutput, ResumingContinuesTextAndStopMatching) {
  const std::vector<SampledToken> tokens = Tokens("one st two stop three");
  ChoiceOutput full(Bytes(), Stop({"stop"}));
  const Result expected = Feed(full, tokens);
  for (size_t cut = 0; cut < expected.tokens.size(); cut++) {
    ChoiceOutput first(Bytes(), Stop({"stop"}));
    const Result held =
        Feed(first, {tokens.begin(), tokens.begin() + static_cast<long>(cut)}, false);
    ChoiceOutput second(Bytes(), Stop({"stop"}));
    second.Resume(held.tokens);
    Result rest;
    const size_t from = held.tokens.size();
    for (size_t i = from; i < tokens.size() && !rest.stopped; i++) {
      const ChoiceOutput::Piece piece = second.Append({&tokens[i], 1});
      rest.text += piece.content.Reveal();
      rest.stopped = piece.stopped;
    }
    EXPECT_EQ(held.text + rest.text, expected.text) << cut;
    EXPECT_TRUE(rest.stopped);
  }
}

}  // namespace
}  // namespace sluice
