// HTTP/1.1 framing, byte by byte and all at once, and the refusals.
#include "http/request_parser.h"

#include <gtest/gtest.h>

#include <string>

#include "base/errors.h"

namespace sluice {
namespace {

constexpr RequestLimits kLimits{512, 64};

// Feeds `bytes` in pieces of `step`; returns what was not taken, or the error.
absl::StatusOr<std::string> Feed(RequestParser& parser, std::string_view bytes, size_t step) {
  std::string input;
  while (!bytes.empty() && !parser.done()) {
    const size_t n = std::min(step, bytes.size());
    input += bytes.substr(0, n);
    bytes.remove_prefix(n);
    for (;;) {
      const auto taken = parser.Parse(input);
      if (!taken.ok()) return taken.status();
      input.erase(0, *taken);
      if (*taken == 0 || input.empty() || parser.done()) break;
    }
  }
  return input + std::string(bytes);
}

int RefusalOf(std::string_view bytes) {
  RequestParser parser(kLimits);
  const auto rest = Feed(parser, bytes, bytes.size());
  return rest.ok() ? 0 : ToWireError(rest.status()).http_status;
}

TEST(RequestParser, ReadsARequestInPiecesOfAnySize) {
  const std::string request =
      "POST /v1/x?y=1 HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\n";
  for (size_t step = 1; step <= request.size(); ++step) {
    RequestParser parser(kLimits);
    const auto rest = Feed(parser, request + "NEXT", step);
    ASSERT_TRUE(rest.ok()) << rest.status() << " step " << step;
    ASSERT_TRUE(parser.done()) << step;
    EXPECT_EQ(*rest, "NEXT");
    EXPECT_EQ(parser.method(), "POST");
    EXPECT_EQ(parser.target(), "/v1/x?y=1");
    EXPECT_EQ(parser.Header("x-one"), "1");
    EXPECT_EQ(parser.body(), "hello world");
    EXPECT_TRUE(parser.keep_alive());
  }
}

TEST(RequestParser, StopsAfterTheHeader) {
  RequestParser parser(kLimits);
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
  const auto taken = parser.Parse(head + "abc");
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(*taken, head.size());
  EXPECT_TRUE(parser.header_done());
  EXPECT_FALSE(parser.done());
  EXPECT_TRUE(parser.has_length());
}

TEST(RequestParser, RefusesWithTheRightNumber) {
  EXPECT_EQ(RefusalOf("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 0);
  EXPECT_EQ(RefusalOf("GET / HTTP/1.1\r\n\r\n"), 400) << "no Host";
  EXPECT_EQ(RefusalOf("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
  EXPECT_EQ(RefusalOf("GET / HTTP/1.0\r\n\r\n"), 0);
  EXPECT_EQ(RefusalOf("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
  EXPECT_EQ(RefusalOf("nonsense\r\n\r\n"), 400);
  EXPECT_EQ(RefusalOf("GET  / HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(RefusalOf("GET / HTTP/1.1\r\nHost : h\r\n\r\n"), 400);
  EXPECT_EQ(RefusalOf("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(600, 'x') + "\r\n\r\n"),
            431);
  EXPECT_EQ(RefusalOf("GET /" + std::string(600, 'x')), 431) << "no end in sight";
  EXPECT_EQ(RefusalOf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65\r\n\r\n"), 413);
  EXPECT_EQ(RefusalOf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(RefusalOf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n"),
            400);
  EXPECT_EQ(
      RefusalOf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
      400);
  EXPECT_EQ(
      RefusalOf(
          "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
      400);
  EXPECT_EQ(RefusalOf("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n"), 501);
  EXPECT_EQ(RefusalOf("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
            501);
  const std::string chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(RefusalOf(chunked + "41\r\n" + std::string(65, 'x') + "\r\n0\r\n\r\n"), 413);
  EXPECT_EQ(RefusalOf(chunked + "zz\r\n"), 400);
  EXPECT_EQ(RefusalOf(chunked + "ffffffffffffffffff\r\n"), 400);
  EXPECT_EQ(RefusalOf(chunked + "3\r\nabcd\r\n0\r\n\r\n"), 400);
}

TEST(RequestParser, HeaderLimitIsExactHoweverTheBytesCome) {
  for (const size_t size : {size_t{511}, size_t{512}, size_t{513}, size_t{530}}) {
    std::string head = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
    head += std::string(size - head.size() - 4, 'x') + "\r\n\r\n";
    for (const size_t step : {size_t{1}, size_t{7}, size_t{511}, size_t{1000}}) {
      RequestParser parser(kLimits);
      const auto rest = Feed(parser, head, step);
      EXPECT_EQ(rest.ok(), size <= 512) << size << " in steps of " << step;
      if (!rest.ok()) {
        EXPECT_EQ(ToWireError(rest.status()).http_status, 431);
      }
    }
  }
}

TEST(RequestParser, KnowsWhetherTheConnectionGoesOn) {
  const auto keep_alive = [](std::string_view head) {
    RequestParser parser(kLimits);
    EXPECT_TRUE(parser.Parse(head).ok());
    return parser.keep_alive();
  };
  EXPECT_TRUE(keep_alive("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_FALSE(keep_alive("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
  EXPECT_FALSE(keep_alive("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keep_alive("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

}  // namespace
}  // namespace sluice
