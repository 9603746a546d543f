// Ids, words and replaced bytes equal to those of the `tokenizers` package and of Python.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "tests/tokenizer/golden_rows.h"
#include "tokenizer/char_class.h"
#include "tokenizer/patterns.h"

namespace sluice {
namespace {

std::vector<TokenId> EncodeWhole(const Tokenizer& tokenizer, const std::string& text,
                                 bool special) {
  const PromptSegment segment = {Text(text), special};
  return tokenizer.Encode(std::span(&segment, 1));
}

TEST(TokenizerGolden, IdsEqualThoseOfTheTokenizersPackage) {
  const Tokenizer& tokenizer = DefaultModelTokenizer();
  const auto rows = ReadGoldenRows("tokenizer_smollm2.tsv");
  ASSERT_GE(rows.size(), 5000);
  int num_special = 0;
  int num_plain = 0;
  for (const auto& row : rows) {
    ASSERT_EQ(row.size(), 3) << row[0];
    const bool special = row[1] == "s";
    ++(special ? num_special : num_plain);
    EXPECT_EQ(EncodeWhole(tokenizer, row[0], special), ParseIds(row[2])) << row[0];
  }
  EXPECT_GE(num_special, 5000);
  EXPECT_GE(num_plain, 250);
}

TEST(TokenizerGolden, SegmentBordersChangeNothingWhereAllAllowSpecialTokensOrNoneDoes) {
  const Tokenizer& tokenizer = DefaultModelTokenizer();
  std::mt19937 random(5);
  for (const auto& row : ReadGoldenRows("tokenizer_smollm2.tsv")) {
    std::vector<PromptSegment> segments;
    for (size_t begin = 0; begin < row[0].size();) {
      const size_t size = random() % 9;
      segments.push_back({Text(row[0].substr(begin, size)), row[1] == "s"});
      begin += size;
    }
    EXPECT_EQ(tokenizer.Encode(segments), ParseIds(row[2])) << row[0];
  }
}

// All but the characters that the model's vocabulary has no bytes for come back.
TEST(TokenizerGolden, DecodingGivesTheTextBackWithInvalidBytesReplaced) {
  const Tokenizer& tokenizer = DefaultModelTokenizer();
  for (const auto& row : ReadGoldenRows("tokenizer_smollm2.tsv")) {
    std::string expected = ReplaceInvalidUtf8(row[0]);
    if (expected.find_first_of("\x04\x06\x13\x14\x16\x1d\xF1\xF2") != std::string::npos) continue;
    EXPECT_EQ(tokenizer.Decode(ParseIds(row[2]), false), expected);
  }
}

// The lengths of the words, cut by one step after the other.
std::vector<int32_t> WordLengths(const std::vector<CutStep>& steps, size_t step, const char* begin,
                                 const char* end) {
  if (step == steps.size()) return {static_cast<int32_t>(end - begin)};
  std::vector<int32_t> lengths;
  RunAhead ahead;
  for (const char* p = begin; p != end;) {
    const Piece piece = NextPiece(steps[step], p, end, ahead);
    EXPECT_TRUE(piece.is_word);
    const auto inner = WordLengths(steps, step + 1, p, piece.end);
    lengths.insert(lengths.end(), inner.begin(), inner.end());
    p = piece.end;
  }
  return lengths;
}

// Rows of the file: a text, then the lengths of its words in bytes by each pattern.
void ExpectTheSameWords(const std::string& file, size_t min_rows,
                        const std::vector<std::string>& patterns) {
  const auto rows = ReadGoldenRows(file);
  ASSERT_GE(rows.size(), min_rows);
  for (const auto& row : rows) {
    ASSERT_EQ(row.size(), 1 + patterns.size()) << row[0];
    for (size_t i = 0; i < patterns.size(); ++i) {
      const auto pattern = FindPreTokenizer(patterns[i]);
      ASSERT_TRUE(pattern.has_value());
      const char* const begin = row[0].data();
      EXPECT_EQ(WordLengths(pattern->steps, 0, begin, begin + row[0].size()), ParseIds(row[1 + i]))
          << patterns[i] << ": " << row[0];
    }
  }
}

TEST(TokenizerGolden, EveryPatternCutsTheSameWords) {
  ExpectTheSameWords("pre_tokenizers.tsv", 2000, {"smollm", "gpt-2", "llama-bpe", "qwen2"});
}

TEST(TokenizerGolden, RarePatternsCutTheSameWords) {
  ExpectTheSameWords("tokenizers/cuts.tsv", 1200,
                     {"superbpe", "kimi-k2", "youtu", "tiny_aya", "exaone-moe", "afmoe", "jais-2",
                      "spark2_5", "laguna"});
}

TEST(TokenizerGolden, EveryCodePointHasTheSameClass) {
  std::vector<char> expected(0x110000, 'O');
  for (const auto& row : ReadGoldenRows("char_classes.tsv")) {
    ASSERT_EQ(row.size(), 3);
    for (size_t c = std::stoul(row[0]); c < std::stoul(row[1]); ++c) expected.at(c) = row[2].at(0);
  }
  for (char32_t c = 0; c < expected.size(); ++c) {
    ASSERT_EQ("OLNS"[static_cast<int>(ClassOf(CharKinds().Of(c)))], expected[c])
        << static_cast<uint32_t>(c);
  }
}

TEST(TokenizerGolden, InvalidBytesAreReplacedAsPythonDoesAtEverySplitOfTheStream) {
  const auto rows = ReadGoldenRows("utf8_replacement.tsv");
  ASSERT_GE(rows.size(), 700);
  for (const auto& row : rows) {
    const std::string& bytes = row[0];
    EXPECT_EQ(ReplaceInvalidUtf8(bytes), row[1]);
    EXPECT_EQ(IsValidUtf8(bytes), bytes == row[1]);
    for (size_t first = 0; first <= bytes.size(); ++first) {
      for (size_t second = first; second <= bytes.size(); ++second) {
        Utf8Stream stream;
        std::string out = stream.Append(bytes.substr(0, first));
        EXPECT_LE(stream.num_held(), 3);
        out += stream.Append(bytes.substr(first, second - first));
        out += stream.Append(bytes.substr(second));
        EXPECT_LE(stream.num_held(), 3);
        out += stream.Flush();
        EXPECT_EQ(out, row[1]) << first << ", " << second;
      }
    }
  }
}

}  // namespace
}  // namespace sluice
