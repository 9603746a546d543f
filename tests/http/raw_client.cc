#include "tests/http/raw_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <utility>

namespace sluice {
namespace {

int Connect(int port, int receive_buffer) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  if (receive_buffer > 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  const timeval timeout{10, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
  ::close(fd);
  return -1;
}

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

std::vector<std::string> RawResponse::Events() const {
  std::vector<std::string> events;
  for (size_t begin = 0; begin < body.size();) {
    const size_t end = body.find("\n\n", begin);
    if (end == std::string::npos || body.compare(begin, 6, "data: ") != 0)
      return {"malformed stream"};
    events.push_back(body.substr(begin + 6, end - begin - 6));
    begin = end + 2;
  }
  return events;
}

RawClient::RawClient(int port, int receive_buffer)
    : fd_(Connect(port, receive_buffer)), connected_(fd_ >= 0) {}

RawClient::RawClient(int port, SSL_CTX* context) : fd_(Connect(port, 0)), ssl_(SSL_new(context)) {
  SSL_set_fd(ssl_, fd_);
  connected_ = fd_ >= 0 && SSL_connect(ssl_) == 1;
}

RawClient::~RawClient() { Close(); }

void RawClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ssl_ != nullptr
                          ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                          : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

bool RawClient::Fill() {
  char data[4096];
  const ssize_t n =
      ssl_ != nullptr ? SSL_read(ssl_, data, sizeof(data)) : ::recv(fd_, data, sizeof(data), 0);
  if (n <= 0) return false;
  buffer_.append(data, static_cast<size_t>(n));
  return true;
}

bool RawClient::ReadBytes(size_t count, std::string& out) {
  while (buffer_.size() < count) {
    if (!Fill()) return false;
  }
  out += buffer_.substr(0, count);
  buffer_.erase(0, count);
  return true;
}

std::optional<std::string> RawClient::ReadLine() {
  size_t end = 0;
  while ((end = buffer_.find("\r\n")) == std::string::npos) {
    if (!Fill()) return std::nullopt;
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return line;
}

std::optional<RawResponse> RawClient::Read(bool head_only) {
  RawResponse response;
  const std::optional<std::string> status = ReadLine();
  if (!status || !status->starts_with("HTTP/1.1 ")) return std::nullopt;
  std::from_chars(status->data() + 9, status->data() + status->size(), response.status);
  for (;;) {
    const std::optional<std::string> line = ReadLine();
    if (!line) return std::nullopt;
    if (line->empty()) break;
    const size_t colon = line->find(": ");
    response.headers[Lower(line->substr(0, colon))] = line->substr(colon + 2);
  }
  if (head_only || response.status == 100 || response.status == 204) return response;
  if (response.headers.contains("content-length")) {
    if (!ReadBytes(std::stoul(response.headers["content-length"]), response.body))
      return std::nullopt;
    return response;
  }
  if (!response.headers.contains("transfer-encoding")) {
    while (Fill()) {
    }
    response.body = std::exchange(buffer_, "");
    return response;
  }
  for (;;) {
    const std::optional<std::string> line = ReadLine();
    if (!line) return std::nullopt;
    std::string chunk;
    const size_t size = std::stoul(*line, nullptr, 16);
    if (!ReadBytes(size, chunk) || ReadLine() != "") return std::nullopt;
    if (size == 0) return response;
    response.body += chunk;
    response.chunks.push_back(std::move(chunk));
  }
}

std::string RawClient::ReadUntil(std::string_view text) {
  while (buffer_.find(text) == std::string::npos) {
    if (!Fill()) break;
  }
  return buffer_;
}

bool RawClient::AtEnd() {
  if (!buffer_.empty()) return false;
  char byte = 0;
  const ssize_t n = ssl_ != nullptr ? SSL_read(ssl_, &byte, 1) : ::recv(fd_, &byte, 1, 0);
  return n == 0 || (n < 0 && errno == ECONNRESET);
}

bool RawClient::UpdateKeys() {
  return SSL_key_update(ssl_, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(ssl_) == 1;
}

void RawClient::CloseWrite() { ::shutdown(fd_, SHUT_WR); }

void RawClient::Close() {
  if (ssl_ != nullptr) SSL_free(ssl_);
  ssl_ = nullptr;
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void RawClient::Reset() {
  const linger abort{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
  Close();
}

std::string Post(std::string_view path, std::string_view body, std::string_view headers) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: "
      "{}\r\n{}\r\n{}",
      path, body.size(), headers, body);
}

std::string Get(std::string_view path, std::string_view headers) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: test\r\n{}\r\n", path, headers);
}

}  // namespace sluice
