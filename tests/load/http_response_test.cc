#include "bench/serve/http_response.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice::load {
namespace {

struct Read {
  std::string body;
  std::vector<std::string> events;
  int status = 0;
  bool done = false, keep_alive = false;
  ErrorKind error;
  int64_t data_lines = 0;
};

// Feeds `bytes` in two pieces, cut at `cut`, and then closes if asked to.
Read ReadInTwo(const std::string& bytes, size_t cut, bool close) {
  HttpResponseReader reader;
  SseReader sse;
  DataLineCounter lines;
  Read read;
  for (const std::string& part : {bytes.substr(0, cut), bytes.substr(cut)}) {
    read.data_lines += lines.Feed(part);
    reader.Feed(part, [&](std::string_view body) {
      read.body += body;
      sse.Feed(body, [&](std::string_view event) { read.events.emplace_back(event); });
    });
  }
  if (close) reader.Close();
  read.status = reader.status();
  read.done = reader.done();
  read.keep_alive = reader.keep_alive();
  read.error = reader.error();
  return read;
}

const char kStream[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding:  chunked \r\n\r\n"
    "8\r\ndata: a\n\r\nf;x=y\r\n\nid: 7\ndata:bc\r\r\n2\r\n\n\n\r\n7\r\ndata: d\r\n1\r\n\n\r\n"
    "0\r\nTrailer: x\r\n\r\n";

TEST(HttpResponse, AChunkedStreamCutAnywhereGivesTheSameEvents) {
  const std::string bytes = kStream;
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    const Read read = ReadInTwo(bytes, cut, false);
    EXPECT_EQ(read.error, "") << cut;
    EXPECT_TRUE(read.done) << cut;
    EXPECT_TRUE(read.keep_alive);
    EXPECT_EQ(read.status, 200);
    EXPECT_EQ(read.events, (std::vector<std::string>{"a", "bc", "d"})) << cut;
    EXPECT_EQ(read.data_lines, 3) << cut;
  }
}

TEST(HttpResponse, AFixedLengthCutAnywhereGivesTheSameBody) {
  const std::string bytes =
      "HTTP/1.1 429 Too Many\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    const Read read = ReadInTwo(bytes, cut, false);
    EXPECT_EQ(read.body, "hello") << cut;
    EXPECT_EQ(read.status, 429);
    EXPECT_TRUE(read.done);
    EXPECT_FALSE(read.keep_alive);
  }
}

TEST(HttpResponse, WithoutALengthTheBodyEndsWithTheConnection) {
  const std::string bytes = "HTTP/1.0 200 OK\r\n\r\nsome";
  EXPECT_FALSE(ReadInTwo(bytes, 5, false).done);
  const Read read = ReadInTwo(bytes, 5, true);
  EXPECT_TRUE(read.done);
  EXPECT_EQ(read.body, "some");
  EXPECT_FALSE(read.keep_alive);
}

TEST(HttpResponse, ClosingBeforeTheEndIsNoEnd) {
  const std::string bytes = kStream;
  for (const size_t size : {size_t{0}, size_t{30}, bytes.size() - 20, bytes.size() - 1}) {
    HttpResponseReader reader;
    reader.Feed(bytes.substr(0, size), [](std::string_view) {});
    EXPECT_FALSE(reader.Close()) << size;
  }
}

TEST(HttpResponse, AnInterimAnswerIsPassedOver) {
  const Read read = ReadInTwo("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 10, false);
  EXPECT_EQ(read.status, 204);
  EXPECT_TRUE(read.done);
}

TEST(HttpResponse, BytesBehindTheAnswerAreLeft) {
  HttpResponseReader reader;
  const std::string bytes = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxYZ";
  EXPECT_EQ(reader.Feed(bytes, [](std::string_view) {}), bytes.size() - 2);
  EXPECT_TRUE(reader.done());
}

TEST(HttpResponse, WhatIsNoHttpIsSaidToBeSo) {
  for (const char* bad :
       {"SSH-2.0-OpenSSH\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n"}) {
    EXPECT_EQ(ReadInTwo(bad, 3, false).error, "malformed_http") << bad;
  }
}

TEST(HttpResponse, AHeadOrAChunkLineThatNeverEndsIsCutOff) {
  HttpResponseReader reader;
  const std::string more(1 << 16, 'x');
  reader.Feed("HTTP/1.1 200 OK\r\nA: ", [](std::string_view) {});
  for (int i = 0; i < 4; ++i) reader.Feed(more, [](std::string_view) {});
  EXPECT_EQ(reader.error(), "head_too_large");
  reader.Reset();
  reader.Feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", [](std::string_view) {});
  reader.Feed("1;" + more, [](std::string_view) {});
  EXPECT_EQ(reader.error(), "malformed_http");
}

TEST(SseReader, ALineBeyondTheLimitIsRefused) {
  SseReader reader;
  const std::string part(1 << 19, 'x');
  const auto ignore = [](std::string_view) {};
  EXPECT_TRUE(reader.Feed("data: ", ignore));
  EXPECT_TRUE(reader.Feed(part, ignore));
  EXPECT_FALSE(reader.Feed(part, ignore));
}

TEST(DataLineCounter, CountsLinesOnlyWhereTheyBegin) {
  DataLineCounter counter;
  EXPECT_EQ(counter.Feed("\ndata: 1\n\ndata: the data: 2\nxdata:\n\n\ndat"), 2);
  EXPECT_EQ(counter.Feed("a:"), 1);
}

}  // namespace
}  // namespace sluice::load
