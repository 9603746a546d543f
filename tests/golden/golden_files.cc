#include "tests/golden/golden_files.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "base/check.h"

namespace sluice {
namespace {

std::ifstream OpenGolden(const char* name) {
  const char* source = std::getenv("SLUICE_SOURCE_DIR");
  SLUICE_CHECK(source != nullptr, "SLUICE_SOURCE_DIR must name the root of the sources");
  const std::string path = std::string(source) + "/tests/golden/" + name;
  std::ifstream file(path, std::ios::binary);
  SLUICE_CHECK(file.good(), "cannot read {}", path);
  return file;
}

template <typename T>
std::vector<T> ReadList(std::istringstream& line) {
  return {std::istream_iterator<T>(line), std::istream_iterator<T>()};
}

template <typename T>
T ReadBinary(std::ifstream& file) {
  T value;
  file.read(reinterpret_cast<char*>(&value), sizeof(T));
  SLUICE_CHECK(file.good(), "a golden file ends early");
  return value;
}

}  // namespace

std::vector<GreedyGolden> ReadGreedyGoldens(const char* name) {
  std::ifstream file = OpenGolden(name);
  std::vector<GreedyGolden> goldens;
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    std::string kind;
    line >> kind;
    if (kind == "prompt") goldens.emplace_back().prompt = ReadList<TokenId>(line);
    if (kind == "output") goldens.back().output = ReadList<TokenId>(line);
    if (kind == "gap") goldens.back().gaps = ReadList<float>(line);
  }
  for (const GreedyGolden& golden : goldens) {
    SLUICE_CHECK(!golden.output.empty() && golden.output.size() == golden.gaps.size(),
                 "{} outputs, {} gaps", golden.output.size(), golden.gaps.size());
  }
  return goldens;
}

std::vector<TeacherSegment> ReadTeacherSegments(const char* name) {
  std::ifstream file = OpenGolden(name);
  char magic[4];
  file.read(magic, sizeof(magic));
  SLUICE_CHECK(std::string(magic, 4) == "SLTF", "{} is not a teacher-forced golden", name);
  const auto version = ReadBinary<uint32_t>(file);
  SLUICE_CHECK(version == 1 || version == 2, "{} has version {}", name, version);
  std::vector<TeacherSegment> segments(ReadBinary<uint32_t>(file));
  const auto k = ReadBinary<uint32_t>(file);
  for (TeacherSegment& segment : segments) {
    const auto size = ReadBinary<uint32_t>(file);
    for (uint32_t i = 0; i < size; ++i)
      segment.tokens.push_back(static_cast<TokenId>(ReadBinary<uint32_t>(file)));
    for (uint32_t i = 0; i < size; ++i) {
      auto& top = segment.top.emplace_back(k);
      for (auto& entry : top) {
        entry.first = version == 1 ? ReadBinary<uint16_t>(file)
                                   : static_cast<TokenId>(ReadBinary<uint32_t>(file));
      }
      for (auto& entry : top) entry.second = ReadBinary<float>(file);
    }
  }
  return segments;
}

}  // namespace sluice
