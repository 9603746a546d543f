#include "bench/serve/script.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice::load {
namespace {

const std::vector<std::string> kPieces = {"The", " mill", " stood", ".", "\n"};

std::string Output(uint64_t seed, int tokens) {
  std::string text;
  for (int i = 0; i < tokens; ++i)
    text += kPieces[(seed + static_cast<uint64_t>(i)) % kPieces.size()];
  return text;
}

TEST(Script, TheRightOutputInPiecesOfAnySizeIsWhole) {
  const Script script(kPieces);
  for (uint64_t seed = 0; seed < 12; ++seed) {
    for (const int tokens : {0, 1, 4, 5, 6, 23}) {
      const std::string text = Output(seed, tokens);
      for (size_t size = 1; size < 9; ++size) {
        ScriptCursor cursor(&script, seed);
        for (size_t at = 0; at < text.size(); at += size)
          EXPECT_TRUE(cursor.Take(text.substr(at, size)));
        EXPECT_TRUE(cursor.IsWhole(tokens));
        EXPECT_FALSE(cursor.IsWhole(tokens + 1));
      }
    }
  }
}

TEST(Script, WhatIsMissingSwappedRepeatedOrWrongIsNoticed) {
  const Script script(kPieces);
  for (const char* bad :
       {"The stood.", " millThe stood.", "TheThe mill", "The mill stool", "the mill"}) {
    ScriptCursor cursor(&script, 0);
    EXPECT_FALSE(cursor.Take(bad)) << bad;
    EXPECT_FALSE(cursor.Take(" mill")) << "once wrong is always wrong";
    EXPECT_FALSE(cursor.IsWhole(3)) << bad;
  }
  ScriptCursor cut(&script, 0);
  EXPECT_TRUE(cut.Take("The mil"));
  EXPECT_FALSE(cut.IsWhole(2));
}

TEST(Script, WithoutAScriptEverythingIsRight) {
  ScriptCursor cursor;
  EXPECT_TRUE(cursor.Take("anything"));
  EXPECT_TRUE(cursor.IsWhole(99));
}

}  // namespace
}  // namespace sluice::load
