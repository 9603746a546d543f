#include "tests/tokenizer/corpus.h"

#include <cstdint>
#include <unordered_set>

#include "tests/tokenizer/golden_rows.h"

namespace sluice {
namespace {

constexpr int kNumCombinations = 16000;

class SplitMix {
 public:
  uint64_t Next() {
    state_ += 0x9E3779B97F4A7C15U;
    uint64_t z = state_;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
    z = (z ^ z >> 27) * 0x94D049BB133111EBU;
    return z ^ z >> 31;
  }

 private:
  uint64_t state_ = 11;
};

std::vector<std::string> MakeCorpus() {
  std::vector<std::string> texts;
  std::unordered_set<std::string> seen;
  for (const auto& row : ReadGoldenRows("tokenizer_smollm2.tsv")) {
    if (seen.insert(row[0]).second) texts.push_back(row[0]);
  }
  std::vector<std::string> pieces;
  for (const std::string& text : texts) {
    if (!text.empty() && text.size() <= 40) pieces.push_back(text);
  }
  SplitMix random;
  for (int i = 0; i < kNumCombinations; ++i) {
    const uint64_t head = random.Next();
    std::string text;
    for (uint64_t part = 0; part < 1 + head % 6; ++part) {
      if (part > 0 && (head & 64) != 0) text.push_back(' ');
      text += pieces[random.Next() % pieces.size()];
    }
    texts.push_back(text);
  }
  return texts;
}

}  // namespace

const std::vector<std::string>& TokenizerCorpus() {
  static const std::vector<std::string> corpus = MakeCorpus();
  return corpus;
}

}  // namespace sluice
