// What a server sends to the load generator: an HTTP answer with an event stream, in pieces.
// However it is cut, the same must come out.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "bench/serve/chunk_reader.h"
#include "bench/serve/http_response.h"

namespace {

struct Read {
  std::string body, texts, error;
  bool done = false, fits = true;
  bool operator==(const Read&) const = default;
};

Read ReadPieces(std::string_view bytes, size_t first, size_t size) {
  sluice::load::HttpResponseReader response;
  sluice::load::SseReader sse;
  sluice::load::ChunkReader chunks;
  Read read;
  for (size_t at = 0; at < bytes.size();) {
    const std::string_view piece = bytes.substr(at, at == 0 ? first : size);
    at += piece.size();
    response.Feed(piece, [&](std::string_view body) {
      read.body += body;
      read.fits = read.fits && sse.Feed(body, [&](std::string_view event) {
        read.texts += chunks.Read(event).text;
        read.texts += '\n';
      });
    });
  }
  read.done = response.done();
  read.error = response.error();
  return read;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t first = data[0] + 1, piece = data[1] + 1;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Read whole = ReadPieces(bytes, bytes.size(), bytes.size());
  if (!(ReadPieces(bytes, first, piece) == whole)) std::abort();
  // The head is seldom guessed: the same bytes as the body of a chunked answer and of a plain one.
  for (const char* head :
       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"}) {
    const std::string answer = head + std::string(bytes);
    if (!(ReadPieces(answer, first, piece) == ReadPieces(answer, answer.size(), 1))) std::abort();
  }
  return 0;
}
