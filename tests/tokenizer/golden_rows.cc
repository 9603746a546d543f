#include "tests/tokenizer/golden_rows.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

#include "base/check.h"
#include "model/model_file.h"

namespace sluice {
namespace {

std::string Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out.push_back(text[i]);
      continue;
    }
    SLUICE_CHECK(++i < text.size(), "a backslash at the end of '{}'", text);
    switch (text[i]) {
      case 't':
        out.push_back('\t');
        break;
      case 'n':
        out.push_back('\n');
        break;
      case 'r':
        out.push_back('\r');
        break;
      case 'x':
        SLUICE_CHECK(i + 2 < text.size(), "'{}'", text);
        out.push_back(
            static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16)));
        i += 2;
        break;
      default:
        SLUICE_CHECK(text[i] == '\\', "'{}'", text);
        out.push_back('\\');
    }
  }
  return out;
}

const char* EnvironmentOr(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

std::string ModelPath() {
  const std::string model = EnvironmentOr("SLUICE_MODEL", "");
  if (!model.empty()) return model;
  const std::string home = std::string(EnvironmentOr("HOME", "")) + "/.cache";
  return std::string(EnvironmentOr("XDG_CACHE_HOME", home.c_str())) +
         "/sluice/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

}  // namespace

std::vector<std::vector<std::string>> ReadGoldenRows(const std::string& name) {
  const std::string path =
      std::string(EnvironmentOr("SLUICE_SOURCE_DIR", ".")) + "/tests/golden/" + name;
  std::ifstream file(path, std::ios::binary);
  SLUICE_CHECK(file.is_open(), "cannot open {}", path);
  std::vector<std::vector<std::string>> rows;
  for (std::string line; std::getline(file, line);) {
    if (rows.empty() && line.starts_with('#')) continue;
    std::vector<std::string>& row = rows.emplace_back();
    for (size_t begin = 0; begin <= line.size();) {
      const size_t end = std::min(line.find('\t', begin), line.size());
      row.push_back(Unescape(std::string_view(line).substr(begin, end - begin)));
      begin = end + 1;
    }
  }
  return rows;
}

std::vector<TokenId> ParseIds(const std::string& column) {
  std::istringstream in(column);
  std::vector<TokenId> ids;
  for (TokenId id = 0; in >> id;) ids.push_back(id);
  return ids;
}

const Tokenizer& DefaultModelTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    const std::string path = ModelPath();
    const auto file = ModelFile::Open(path);
    SLUICE_CHECK(file.ok(), "no model to test with (SLUICE_MODEL names another): {}",
                 std::string(file.status().message()));
    auto created = Tokenizer::Create(file->info.tokenizer);
    SLUICE_CHECK(created.ok(), "{}", std::string(created.status().message()));
    return *std::move(created);
  }();
  return *tokenizer;
}

}  // namespace sluice
