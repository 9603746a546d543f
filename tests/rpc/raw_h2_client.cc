#include "tests/rpc/raw_h2_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "absl/time/clock.h"

namespace sluice::rpc {
namespace {

std::string BigEndian(uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    out += static_cast<char>(value >> static_cast<unsigned>(shift));
  return out;
}

uint32_t Number(std::string_view bytes) {
  uint32_t value = 0;
  for (const char byte : bytes) value = value << 8U | static_cast<uint8_t>(byte);
  return value;
}

void AppendLiteral(const std::string& text, std::string& out) {
  // A length in HPACK's 7-bit prefix.
  if (text.size() < 127) {
    out += static_cast<char>(text.size());
  } else {
    out += '\x7f';
    size_t rest = text.size() - 127;
    for (; rest >= 128; rest /= 128) out += static_cast<char>(rest % 128 + 128);
    out += static_cast<char>(rest);
  }
  out += text;
}

}  // namespace

RawH2Client::RawH2Client(int port) {
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  nghttp2_hd_inflater* inflater = nullptr;
  nghttp2_hd_inflate_new(&inflater);
  inflater_.reset(inflater);
}

RawH2Client::~RawH2Client() { close(fd_); }

bool RawH2Client::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    // A server that has said its last may not read the rest: that must not stop the test.
    pollfd writable{fd_, POLLOUT, 0};
    if (poll(&writable, 1, 5000) != 1) return false;
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool RawH2Client::SendFrame(uint8_t type, uint8_t flags, int32_t stream, std::string_view payload) {
  std::string out = BigEndian(payload.size(), 3);
  out += static_cast<char>(type);
  out += static_cast<char>(flags);
  out += BigEndian(static_cast<uint32_t>(stream), 4);
  out += payload;
  return Send(out);
}

void RawH2Client::Greet(const std::vector<std::pair<uint16_t, uint32_t>>& settings) {
  std::string payload;
  for (const auto& [id, value] : settings) payload += BigEndian(id, 2) + BigEndian(value, 4);
  EXPECT_TRUE(Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
  EXPECT_TRUE(SendFrame(NGHTTP2_SETTINGS, 0, 0, payload));
}

void RawH2Client::AcknowledgeSettings() {
  EXPECT_EQ(ReadUntil(NGHTTP2_SETTINGS).type, NGHTTP2_SETTINGS);
  EXPECT_TRUE(SendFrame(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, ""));
}

std::string RawH2Client::Hpack(const Headers& headers) {
  std::string out;
  for (const auto& [name, value] : headers) {  // ':' sorts before letters, as is asked for
    out += '\0';
    AppendLiteral(name, out);
    AppendLiteral(value, out);
  }
  return out;
}

bool RawH2Client::SendRequest(int32_t stream, const std::string& path, const Headers& more,
                              bool end_stream) {
  Headers headers = more;
  headers.insert({{":method", "POST"},
                  {":scheme", "http"},
                  {":authority", "test"},
                  {":path", path},
                  {"content-type", "application/grpc"},
                  {"te", "trailers"}});
  const std::string block = Hpack(headers);
  const uint8_t end = end_stream ? NGHTTP2_FLAG_END_STREAM : 0;
  constexpr size_t kMaxFrame = 16'384;
  if (block.size() <= kMaxFrame)
    return SendFrame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | end, stream, block);
  bool sent = SendFrame(NGHTTP2_HEADERS, end, stream, block.substr(0, kMaxFrame));
  for (size_t at = kMaxFrame; at < block.size(); at += kMaxFrame) {
    const bool last = at + kMaxFrame >= block.size();
    sent = sent && SendFrame(NGHTTP2_CONTINUATION, last ? NGHTTP2_FLAG_END_HEADERS : 0, stream,
                             block.substr(at, kMaxFrame));
  }
  return sent;
}

bool RawH2Client::SendMessage(int32_t stream, std::string_view message, bool end_stream) {
  const std::string framed =
      std::string(1, '\0') + BigEndian(message.size(), 4) + std::string(message);
  return SendFrame(NGHTTP2_DATA, end_stream ? NGHTTP2_FLAG_END_STREAM : 0, stream, framed);
}

RawH2Client::Frame RawH2Client::Read(absl::Duration timeout) {
  const absl::Time until = absl::Now() + timeout;
  for (;;) {
    if (in_.size() >= 9) {
      const size_t size = Number(in_.substr(0, 3));
      if (in_.size() >= 9 + size) {
        Frame frame{static_cast<uint8_t>(in_[3]), static_cast<uint8_t>(in_[4]),
                    static_cast<int32_t>(Number(in_.substr(5, 4))), in_.substr(9, size)};
        in_.erase(0, 9 + size);
        return frame;
      }
    }
    pollfd readable{fd_, POLLIN, 0};
    const int64_t left = absl::ToInt64Milliseconds(until - absl::Now());
    if (left <= 0 || poll(&readable, 1, static_cast<int>(left)) != 1) return {};
    std::array<char, 65'536> buffer{};
    const ssize_t size = recv(fd_, buffer.data(), buffer.size(), 0);
    closed_ = closed_ || size <= 0;
    if (size <= 0) return {};
    in_.append(buffer.data(), static_cast<size_t>(size));
  }
}

RawH2Client::Frame RawH2Client::ReadUntil(uint8_t type, int32_t stream) {
  for (;;) {
    Frame frame = Read();
    if (frame.type == 0xFF || (frame.type == type && frame.stream == stream)) return frame;
  }
}

void RawH2Client::Inflate(const std::string& block, Headers& headers) {
  const auto* in = reinterpret_cast<const uint8_t*>(block.data());
  size_t left = block.size();
  for (;;) {
    nghttp2_nv nv;
    int flags = 0;
    const ssize_t taken = nghttp2_hd_inflate_hd2(inflater_.get(), &nv, &flags, in, left, 1);
    ASSERT_GE(taken, 0);
    in += taken;
    left -= static_cast<size_t>(taken);
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
      headers[std::string(nv.name, nv.name + nv.namelen)] =
          std::string(nv.value, nv.value + nv.valuelen);
    if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) break;
  }
  nghttp2_hd_inflate_end_headers(inflater_.get());
}

RawH2Client::Headers RawH2Client::ReadAnswer(int32_t stream) {
  Headers headers;
  for (;;) {
    const Frame frame = Read();
    if (frame.type == NGHTTP2_HEADERS) {
      Headers all;  // the table must see every block
      Inflate(frame.payload, all);
      if (frame.stream == stream) headers.merge(all);
    }
    const bool ends = frame.stream == stream && (frame.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame.type == 0xFF || (frame.type == NGHTTP2_HEADERS && ends)) return headers;
    if (frame.type == NGHTTP2_RST_STREAM && frame.stream == stream) return headers;
  }
}

int64_t RawH2Client::ReadGoodbye() {
  int64_t code = -1;
  for (;;) {
    const Frame frame = Read();
    if (frame.type == NGHTTP2_GOAWAY) {
      code = Number(frame.payload.substr(4, 4));
      if (frame.payload.size() > 8) goodbye_text_ = frame.payload.substr(8);
    }
    if (frame.type == 0xFF) return closed_ ? code : -2;
  }
}

}  // namespace sluice::rpc
