// A client that sends exact bytes and reads answers by HTTP's framing alone, so that the server's
// own code checks nothing about itself.
#pragma once

#include <openssl/ssl.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

struct RawResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
  std::vector<std::string> chunks;
  std::vector<std::string> Events() const;  // of a stream: what stands after "data: "
};

// Blocking, 10 s at most for each read.
class RawClient {
 public:
  // `receive_buffer`: bytes of the kernel's buffer; 0: its default.
  explicit RawClient(int port, int receive_buffer = 0);
  // The same through TLS with the client's context.
  RawClient(int port, SSL_CTX* context);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }  // handshake included
  void Send(std::string_view bytes);
  // nullopt: the connection ended or the time is over. `head_only`: as after HEAD.
  std::optional<RawResponse> Read(bool head_only = false);
  // Reads until `text` has been seen; everything read so far.
  std::string ReadUntil(std::string_view text);
  // True if the server closes within 10 s, having sent nothing more.
  bool AtEnd();
  // TLS 1.3: changes its key and asks the server to change its own. False: the connection is over.
  bool UpdateKeys();
  void CloseWrite();
  void Close();
  void Reset();  // closes with RST

 private:
  bool Fill();
  bool ReadBytes(size_t count, std::string& out);
  std::optional<std::string> ReadLine();

  int fd_ = -1;
  SSL* ssl_ = nullptr;
  bool connected_ = false;
  std::string buffer_;
};

// "POST path HTTP/1.1" with Host, JSON content type and length; `headers`: further whole lines.
std::string Post(std::string_view path, std::string_view body, std::string_view headers = "");
std::string Get(std::string_view path, std::string_view headers = "");

}  // namespace sluice
