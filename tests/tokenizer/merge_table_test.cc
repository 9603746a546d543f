#include "tokenizer/merge_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace sluice {
namespace {

struct Rules {
  MergeTable table;
  std::map<std::pair<TokenId, TokenId>, size_t> ranks;
  std::vector<TokenId> results;
};

// `num_letters` letters and `num_merges` merges of random tokens, each making a new token.
Rules RandomRules(std::mt19937& random, TokenId num_letters, size_t num_merges) {
  Rules rules;
  rules.table = MergeTable(num_merges);
  TokenId next = num_letters;
  while (rules.results.size() < num_merges) {
    const auto left = static_cast<TokenId>(random() % next);
    const auto right = static_cast<TokenId>(random() % next);
    const bool is_new = rules.ranks.emplace(std::pair(left, right), rules.results.size()).second;
    EXPECT_EQ(rules.table.Add(left, right, next), is_new);
    if (is_new) rules.results.push_back(next++);
  }
  return rules;
}

// The definition, word for word: the lowest-ranked pair first, of equal pairs the leftmost.
std::vector<TokenId> MergeByDefinition(const Rules& rules, std::vector<TokenId> tokens) {
  for (;;) {
    size_t best = rules.results.size();
    size_t at = 0;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      const auto found = rules.ranks.find({tokens[i], tokens[i + 1]});
      if (found != rules.ranks.end() && found->second < best) {
        best = found->second;
        at = i;
      }
    }
    if (best == rules.results.size()) return tokens;
    tokens[at] = rules.results[best];
    tokens.erase(tokens.begin() + at + 1);
  }
}

TEST(MergeTable, ShortAndLongWordsMergeAsTheDefinitionSays) {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    const auto num_letters = static_cast<TokenId>(1 + random() % 4);
    const Rules rules = RandomRules(random, num_letters, 1 + random() % 40);
    for (size_t size = 0; size < 80; ++size) {
      std::vector<TokenId> word(size);
      for (TokenId& letter : word) letter = static_cast<TokenId>(random() % num_letters);
      const std::vector<TokenId> expected = MergeByDefinition(rules, word);
      word.resize(rules.table.Merge(word));
      ASSERT_EQ(word, expected) << "round " << round << ", " << size << " letters";
    }
  }
}

// By the definition this word would take 10^12 steps, a test that never ends.
TEST(MergeTable, AWordOfAMillionEqualLettersIsMerged) {
  MergeTable table(20);
  for (TokenId i = 0; i < 20; ++i) ASSERT_TRUE(table.Add(i, i, i + 1));
  std::vector<TokenId> word(1 << 20, 0);
  ASSERT_EQ(table.Merge(word), 1);
  EXPECT_EQ(word[0], 20);
}

TEST(MergeTable, NoMergesLeaveEveryWordAsItIs) {
  std::vector<TokenId> word(100, 7);
  EXPECT_EQ(MergeTable().Merge(word), 100);
  EXPECT_EQ(MergeTable(0).Merge(std::span(word).first(1)), 1);
  EXPECT_EQ(MergeTable().RankOf(7, 7), MergeTable::kNoRank);
}

}  // namespace
}  // namespace sluice
