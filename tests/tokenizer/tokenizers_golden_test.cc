// Ids equal to those of the `tokenizers` package, for every kind of tokenizer.json: each block of
// strings has a hash of its ids (tests/golden/make_tokenizers.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "model/gguf_tokenizer.h"
#include "model/hf_tokenizer.h"
#include "tests/tokenizer/corpus.h"
#include "tests/tokenizer/golden_rows.h"
#include "tokenizer/tokenizer.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBlock = 64;

fs::path GoldenFolder() {
  const char* root = std::getenv("SLUICE_SOURCE_DIR");
  return fs::path(root == nullptr ? "." : root) / "tests/golden/tokenizers";
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// A folder whose tokenizer.json has the vocabulary that the golden file names.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(fs::temp_directory_path() / ("sluice_tokenizer_" + name)) {
    std::string text = ReadFile(GoldenFolder() / (name + ".json"));
    const std::string key = "\"model\":\"";
    const size_t begin = text.find(key) + key.size() - 1;
    const size_t end = text.find('"', begin + 1);
    const std::string model = ReadFile(GoldenFolder() / text.substr(begin + 1, end - begin - 1));
    text.replace(begin, end + 1 - begin, model);
    fs::create_directories(path_);
    std::ofstream(path_ / "tokenizer.json", std::ios::binary) << text;
  }
  ~Folder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

void HashIds(const std::vector<TokenId>& ids, uint64_t& state) {
  const auto add = [&state](uint32_t word) {
    for (int i = 0; i < 4; ++i) state = (state ^ (word >> 8 * i & 0xFF)) * 0x100000001B3U;
  };
  for (const TokenId id : ids) add(static_cast<uint32_t>(id));
  add(0xFFFFFFFF);
}

std::string HashOfBlock(const Tokenizer& tokenizer, size_t begin, bool special_allowed) {
  const std::vector<std::string>& corpus = TokenizerCorpus();
  uint64_t state = 0xCBF29CE484222325U;
  for (size_t i = begin; i < std::min(begin + kBlock, corpus.size()); ++i) {
    const PromptSegment segment = {Text(corpus[i]), special_allowed};
    HashIds(tokenizer.Encode({&segment, 1}), state);
  }
  char hex[17];
  std::snprintf(hex, sizeof(hex), "%016llx", static_cast<unsigned long long>(state));
  return hex;
}

class EveryKind : public testing::TestWithParam<std::string> {};

void ExpectIds(const absl::StatusOr<TokenizerData>& data, const fs::path& ids) {
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = Tokenizer::Create(*data);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ASSERT_GE(TokenizerCorpus().size(), 20'000);
  std::ifstream file(ids);
  std::string plain;
  std::string special;
  size_t begin = 0;
  for (; file >> plain >> special; begin += kBlock) {
    EXPECT_EQ(HashOfBlock(**tokenizer, begin, false), plain) << "strings from " << begin;
    EXPECT_EQ(HashOfBlock(**tokenizer, begin, true), special) << "special, strings from " << begin;
    if (testing::Test::HasFailure()) return;  // one block is enough to look at
  }
  EXPECT_GE(begin, TokenizerCorpus().size());
}

TEST_P(EveryKind, HasTheIdsOfTheTokenizersPackage) {
  const Folder folder(GetParam());
  ExpectIds(ReadHfTokenizer(folder.path(), 1600), GoldenFolder() / (GetParam() + ".ids"));
}

fs::path ModelInCache(const std::string& name) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const fs::path root =
      cache != nullptr ? fs::path(cache) : fs::path(home == nullptr ? "" : home) / ".cache";
  return root / "sluice/models" / name;
}

// 262,144 tokens, merges from scores; the package's tokenizer was made of the same metadata.
TEST(Tokenizers, Gemma3HasTheIdsOfTheTokenizersPackage) {
  const fs::path path = ModelInCache("gemma-3-270m-Q4_K_M.gguf");
  if (!fs::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto file = GgufFile::Open(path.string());
  ASSERT_TRUE(file.ok()) << file.status();
  ExpectIds(ReadGgufTokenizer(**file, 262'144), GoldenFolder() / "real/gemma3-270m.ids");
}

TEST(Tokenizers, MiniLmHasTheIdsOfTheTokenizersPackage) {
  const fs::path path = ModelInCache("all-MiniLM-L6-v2");
  if (!fs::exists(path / "tokenizer.json")) GTEST_SKIP() << path << " is not there";
  ExpectIds(ReadHfTokenizer(path.string(), 30'522), GoldenFolder() / "real/minilm.ids");
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(GoldenFolder())) {
    if (entry.path().extension() == ".ids") names.push_back(entry.path().stem().string());
  }
  std::ranges::sort(names);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, EveryKind, testing::ValuesIn(Names()), [](const auto& name) {
  std::string out = name.param;
  std::ranges::replace(out, '-', '_');
  return out;
});

TEST(Tokenizers, GoldensOfAllKindsAreThere) { EXPECT_GE(Names().size(), 30); }

}  // namespace
}  // namespace sluice
