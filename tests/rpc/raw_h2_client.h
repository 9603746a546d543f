// An HTTP/2 client that does as it is told, also what no client should.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace sluice::rpc {

class RawH2Client {
 public:
  struct Frame {
    uint8_t type = 0xFF;  // 0xFF: none came, the connection is closed or the time is up
    uint8_t flags = 0;
    int32_t stream = 0;
    std::string payload;
  };
  using Headers = std::map<std::string, std::string>;

  explicit RawH2Client(int port);
  ~RawH2Client();
  RawH2Client(const RawH2Client&) = delete;
  RawH2Client& operator=(const RawH2Client&) = delete;

  // False: the server has closed the connection.
  bool Send(std::string_view bytes);
  bool SendFrame(uint8_t type, uint8_t flags, int32_t stream, std::string_view payload);
  // The preface and SETTINGS (each an id and a value).
  void Greet(const std::vector<std::pair<uint16_t, uint32_t>>& settings = {});
  // Once the server's have come: what they allow holds from then on.
  void AcknowledgeSettings();
  // HEADERS of a request for a path; `more` comes after, or in place of, what gRPC asks for.
  bool SendRequest(int32_t stream, const std::string& path, const Headers& more = {},
                   bool end_stream = false);
  // DATA of one whole gRPC message.
  bool SendMessage(int32_t stream, std::string_view message, bool end_stream = true);

  // The next frame, for at most `timeout`.
  Frame Read(absl::Duration timeout = absl::Seconds(10));
  // Reads on until a frame of this type for this stream.
  Frame ReadUntil(uint8_t type, int32_t stream = 0);
  // Reads on until the last headers of a stream: all its headers and trailers.
  Headers ReadAnswer(int32_t stream);
  // The error code of the last GOAWAY before the close; -1: none; -2: the server does not close.
  int64_t ReadGoodbye();
  [[nodiscard]] const std::string& goodbye_text() const { return goodbye_text_; }
  // Whether the server closes the connection within 10 s, whatever it says before.
  bool ReadToEnd() { return ReadGoodbye() != -2; }

  static std::string Hpack(const Headers& headers);  // literals, nothing indexed

 private:
  struct Free {
    void operator()(nghttp2_hd_inflater* inflater) const { nghttp2_hd_inflate_del(inflater); }
  };
  void Inflate(const std::string& block, Headers& headers);

  int fd_ = -1;
  bool closed_ = false;
  std::string in_;
  std::string goodbye_text_;
  std::unique_ptr<nghttp2_hd_inflater, Free> inflater_;
};

}  // namespace sluice::rpc
