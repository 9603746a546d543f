// What tests/golden/make.py wrote; its head documents the formats.
#pragma once

#include <cstdint>
#include <vector>

#include "sluice/types.h"

namespace sluice {

struct GreedyGolden {
  std::vector<TokenId> prompt, output;
  std::vector<float> gaps;  // the oracle's best logit minus its second best, by output position
};

struct TeacherSegment {
  std::vector<TokenId> tokens;
  // [tokens.size()][k]: the most probable next tokens after tokens[0..i], descending.
  std::vector<std::vector<std::pair<TokenId, float>>> top;
};

// From $SLUICE_SOURCE_DIR/tests/golden. A file that is missing or malformed ends the test.
// greedy.txt is transformers', cpu_greedy.txt the CPU backend's (golden_test.cc).
std::vector<GreedyGolden> ReadGreedyGoldens(const char* name = "greedy.txt");
// name: "teacher.bin" or "FOLDER/teacher.bin".
std::vector<TeacherSegment> ReadTeacherSegments(const char* name);

}  // namespace sluice
