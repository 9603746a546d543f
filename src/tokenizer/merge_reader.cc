#include "tokenizer/merge_reader.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kMaxSplitToken = 256;  // bytes; longer tokens are not made by merging

TokenId FindText(const TokenizerData& data, const TokenIds& ids, std::string_view token) {
  const auto found = ids.find(token);
  if (found == ids.end() || !IsTextToken(data.types[found->second])) return -1;
  return found->second;
}

struct Merge {
  TokenId left, right, result;
};

absl::Status AddMerge(size_t rank, const Merge& merge, MergeTable& table) {
  if (merge.left < 0 || merge.right < 0 || merge.result < 0) {
    return InvalidTokenizer("merge {}: its {} is no text token of the vocabulary", rank,
                            merge.left < 0    ? "left side"
                            : merge.right < 0 ? "right side"
                                              : "result");
  }
  if (table.Add(merge.left, merge.right, merge.result)) return absl::OkStatus();
  return InvalidTokenizer("merge {} repeats an earlier one", rank);
}

// Merges of tokens that only a name may give are left out: no text must become one of them. Where
// such a token is allowed, it is found before anything is merged.
absl::StatusOr<MergeTable> ReadPairs(const TokenizerData& data, const TokenIds& ids) {
  MergeTable table(data.merge_pairs.size());
  const auto num_tokens = static_cast<TokenId>(data.tokens.size());
  std::string joined;
  for (size_t rank = 0; rank < data.merge_pairs.size(); ++rank) {
    const auto [left, right] = data.merge_pairs[rank];
    if (left < 0 || left >= num_tokens || right < 0 || right >= num_tokens) {
      return InvalidTokenizer("merge {} is of tokens {} and {}; the vocabulary has {} tokens", rank,
                              left, right, num_tokens);
    }
    joined.assign(data.tokens[left]).append(data.tokens[right]);
    const auto result = ids.find(joined);
    if (result == ids.end()) {
      return InvalidTokenizer("merge {}: its result is not in the vocabulary", rank);
    }
    const bool is_text = IsTextToken(data.types[left]) && IsTextToken(data.types[right]) &&
                         IsTextToken(data.types[result->second]);
    if (!is_text) continue;
    RETURN_IF_ERROR(AddMerge(rank, {left, right, result->second}, table));
  }
  return table;
}

struct Split {
  double score;
  uint32_t left_size, right_size;  // characters
  Merge merge;
};

// The splits of one token, by the ids of their parts.
void AppendSplits(const TokenizerData& data, const TokenIds& ids, TokenId result,
                  std::vector<Split>& splits) {
  const std::string_view token = data.tokens[result];
  const auto is_begin = [&](size_t i) { return (static_cast<uint8_t>(token[i]) & 0xC0) != 0x80; };
  uint32_t size = 0;
  for (size_t i = 0; i < token.size(); ++i) size += is_begin(i) ? 1 : 0;
  const size_t first = splits.size();
  uint32_t left_size = 0;
  for (size_t i = 0; i < token.size(); ++i) {
    if (!is_begin(i)) continue;
    if (i > 0) {
      const TokenId left = FindText(data, ids, token.substr(0, i));
      const TokenId right = left < 0 ? -1 : FindText(data, ids, token.substr(i));
      if (right >= 0) {
        splits.push_back({data.scores[result], left_size, size - left_size, {left, right, result}});
      }
    }
    ++left_size;
  }
  std::sort(splits.begin() + static_cast<std::ptrdiff_t>(first), splits.end(),
            [](const Split& a, const Split& b) {
              return std::pair(a.merge.left, a.merge.right) <
                     std::pair(b.merge.left, b.merge.right);
            });
}

}  // namespace

absl::StatusOr<MergeTable> ReadMerges(const TokenizerData& data, const TokenIds& ids) {
  if (data.merges.empty()) return ReadPairs(data, ids);
  MergeTable table(data.merges.size());
  std::string joined;
  for (size_t rank = 0; rank < data.merges.size(); ++rank) {
    const std::string_view merge = data.merges[rank];
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos) {
      return InvalidTokenizer("merge {} is not two tokens with a space between them", rank);
    }
    joined.assign(merge.substr(0, space)).append(merge.substr(space + 1));
    const Merge found = {FindText(data, ids, merge.substr(0, space)),
                         FindText(data, ids, merge.substr(space + 1)), FindText(data, ids, joined)};
    RETURN_IF_ERROR(AddMerge(rank, found, table));
  }
  return table;
}

MergeTable MergesFromScores(const TokenizerData& data, const TokenIds& ids) {
  std::vector<Split> splits;
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (!IsTextToken(data.types[id]) || data.tokens[id].size() > kMaxSplitToken) continue;
    AppendSplits(data, ids, static_cast<TokenId>(id), splits);
  }
  std::stable_sort(splits.begin(), splits.end(), [](const Split& a, const Split& b) {
    if (a.score != b.score) return a.score > b.score;
    if (a.left_size != b.left_size) return a.left_size > b.left_size;
    return a.right_size > b.right_size;
  });
  MergeTable table(splits.size());
  for (const Split& split : splits) {
    // No pair comes twice: its parts say its result.
    static_cast<void>(table.Add(split.merge.left, split.merge.right, split.merge.result));
  }
  return table;
}

}  // namespace sluice
