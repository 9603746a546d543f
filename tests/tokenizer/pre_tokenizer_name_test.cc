// GGUF's names of pre-tokenizers: one table, read in both directions.
#include <gtest/gtest.h>

#include <string>

#include "tokenizer/patterns.h"
#include "tokenizer/pre_tokenizer.h"

namespace sluice {
namespace {

using Kind = PreTokenizerStep::Kind;

TEST(PreTokenizerNames, EachLeadsBackToANameForTheSame) {
  const std::string names = PreTokenizerNames() + ", ";
  size_t count = 0;
  for (size_t begin = 0; begin < names.size(); ++count) {
    const size_t end = names.find(", ", begin);
    const std::string name = names.substr(begin, end - begin);
    begin = end + 2;
    const auto meant = FindPreTokenizer(name);
    ASSERT_TRUE(meant.has_value()) << name;
    EXPECT_EQ(FindPreTokenizer(NameOf(*meant)), meant) << name;
    EXPECT_NE(NameOf(*meant), "default");
  }
  EXPECT_GT(count, 60U);
}

TokenizerData Data(std::vector<PreTokenizerStep> steps) {
  TokenizerData data;
  data.model = "gpt2";
  data.has_stages = true;
  data.pre_tokenizer_steps = std::move(steps);
  return data;
}

TEST(PreTokenizerNames, NothingIsNamedThatDoesMore) {
  const PreTokenizerStep bytes{.kind = Kind::kByteLevel};
  EXPECT_EQ(NameOfPreTokenizer(Data({bytes})), "gpt-2");
  EXPECT_EQ(NameOfPreTokenizer(Data({{.kind = Kind::kDigits, .single = true}, bytes})), "smollm");
  PreTokenizerStep prefixed = bytes;
  prefixed.prefix_space = true;
  EXPECT_EQ(NameOfPreTokenizer(Data({prefixed})), "");
  EXPECT_EQ(NameOfPreTokenizer(Data({{.kind = Kind::kRegex, .pattern = "[xyz]"}, bytes})), "");
  TokenizerData composes = Data({bytes});
  composes.normalizer = {{.kind = NormalizerStep::Kind::kNfc}};
  EXPECT_EQ(NameOfPreTokenizer(composes), "modern-bert");
  composes.normalizer.push_back({.kind = NormalizerStep::Kind::kLowercase});
  EXPECT_EQ(NameOfPreTokenizer(composes), "");
  TokenizerData whole = Data({bytes});
  whole.whole_words_first = true;
  EXPECT_EQ(NameOfPreTokenizer(whole), "");
}

}  // namespace
}  // namespace sluice
