#include "bench/serve/chunk_reader.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::load {
namespace {

std::string Chat(const std::string& content, const std::string& reason = "null") {
  return R"({"id":"x","choices":[{"index":0,"delta":{"content":")" + content +
         R"("},"finish_reason":)" + reason + "}]}";
}

TEST(ChunkReader, AChatStreamIsParsedOnceAndThenCompared) {
  ChunkReader reader;
  EXPECT_FALSE(
      reader
          .Read(
              R"({"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]})")
          .has_text);
  EXPECT_EQ(reader.Read(Chat("Hello")).text, "Hello");
  for (const char* text : {" world", "!", "x"}) EXPECT_EQ(reader.Read(Chat(text)).text, text);
  EXPECT_EQ(reader.num_parsed(), 2);
  EXPECT_EQ(reader.Read(Chat(R"(a\n\"b\" \u00e4\ud83d\ude00)")).text, "a\n\"b\" ä😀");
  EXPECT_EQ(reader.num_parsed(), 2);
  EXPECT_EQ(reader.Read(Chat("", "\"length\"")).finish_reason, "length");
  const StreamChunk usage = reader.Read(
      R"({"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}})");
  EXPECT_EQ(usage.prompt_tokens, 5);
  EXPECT_EQ(usage.output_tokens, 4);
  EXPECT_EQ(usage.cached_tokens, 2);
  EXPECT_FALSE(usage.has_text);
  EXPECT_TRUE(reader.Read("[DONE]").done);
}

TEST(ChunkReader, CompletionsAndReasoningCount) {
  ChunkReader reader;
  EXPECT_EQ(reader.Read(R"({ "choices" : [ { "text" : "one" , "index" : 0 } ] })").text, "one");
  EXPECT_EQ(reader.Read(R"({ "choices" : [ { "text" : "two" , "index" : 0 } ] })").text, "two");
  EXPECT_EQ(reader.num_parsed(), 1);
  EXPECT_EQ(
      reader.Read(R"({"choices":[{"delta":{"reasoning_content":"hm","content":null}}]})").text,
      "hm");
}

TEST(ChunkReader, WhatOnlyLooksLikeTheLastChunkIsParsed) {
  ChunkReader reader;
  reader.Read(Chat("a"));
  // The text's end is not where the last one's was.
  EXPECT_EQ(reader.Read(Chat(R"(x"},"more":{"y":"z)")).text, "x");
  EXPECT_EQ(reader.num_parsed(), 2);
  reader.Read(Chat("a"));
  EXPECT_TRUE(reader.Read(Chat("x\\")).malformed);
  EXPECT_TRUE(reader.Read(Chat("x\\q")).malformed);
}

// A field of the same name elsewhere, and text that quotes the field.
TEST(ChunkReader, TheRightFieldIsRead) {
  ChunkReader reader;
  const auto event = [](const char* text) {
    return R"({"text":"other","choices":[{"delta":{"content":")" + std::string(text) + R"("}}]})";
  };
  EXPECT_EQ(reader.Read(event("one")).text, "one");
  EXPECT_EQ(reader.Read(event("two")).text, "two");
  EXPECT_EQ(reader.Read(event(R"(\"content\":\"no\")")).text, "\"content\":\"no\"");
}

TEST(ChunkReader, ErrorsAndGarbageAreTold) {
  ChunkReader reader;
  EXPECT_TRUE(reader.Read(R"({"error":{"message":"queue full"}})").failed);
  for (const char* bad : {"", "{", "nothing", "[1,2]", "\"text\"", "{\"choices\":[{]}"})
    EXPECT_TRUE(reader.Read(bad).malformed) << bad;
  for (const char* odd : {"{}", R"({"choices":3})", R"({"choices":[4]})",
                          R"({"choices":[{"delta":{"content":7}}]})", R"({"usage":9})"}) {
    const StreamChunk chunk = reader.Read(odd);
    EXPECT_FALSE(chunk.has_text || chunk.malformed || chunk.failed) << odd;
  }
}

}  // namespace
}  // namespace sluice::load
