#include "bench/serve/http_once.h"

#include <fmt/format.h>
#include <poll.h>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "bench/serve/http_response.h"

namespace sluice::load {
namespace {

constexpr size_t kMaxBody = 16 << 20;

absl::Status WaitFor(const Socket& socket, short events, absl::Time deadline) {
  pollfd wanted{.fd = socket.fd(), .events = events, .revents = 0};
  const auto left = absl::ToInt64Milliseconds(deadline - absl::Now());
  if (left <= 0 || poll(&wanted, 1, static_cast<int>(left)) <= 0)
    return absl::DeadlineExceededError("the server does not answer");
  return absl::OkStatus();
}

absl::Status SendAll(Socket& socket, std::string_view bytes, absl::Time deadline) {
  while (!bytes.empty()) {
    size_t size = bytes.size();
    const Socket::Io result = socket.Write(bytes.data(), size);
    bytes.remove_prefix(size);
    if (result == Socket::Io::kAgain) {
      RETURN_IF_ERROR(WaitFor(socket, socket.wants_write() ? POLLOUT : POLLIN, deadline));
    } else if (result != Socket::Io::kOk) {
      return absl::UnavailableError("the connection closed while sending");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<HttpAnswer> Receive(Socket& socket, absl::Time deadline) {
  HttpAnswer answer;
  HttpResponseReader reader;
  char buffer[16 << 10];
  while (!reader.done()) {
    size_t size = sizeof(buffer);
    const Socket::Io result = socket.Read(buffer, size);
    if (result == Socket::Io::kAgain) {
      RETURN_IF_ERROR(WaitFor(socket, socket.wants_write() ? POLLOUT : POLLIN, deadline));
      continue;
    }
    if (result != Socket::Io::kOk) {
      if (reader.Close()) break;
      return absl::UnavailableError("the connection closed before an answer");
    }
    reader.Feed({buffer, size}, [&](std::string_view part) { answer.body += part; });
    if (!reader.error().empty()) return absl::InternalError(reader.error());
    if (answer.body.size() > kMaxBody)
      return absl::ResourceExhaustedError("the answer is too long");
  }
  answer.status = reader.status();
  return answer;
}

}  // namespace

absl::StatusOr<HttpAnswer> HttpOnce(const Endpoint& endpoint, std::string_view path,
                                    std::string_view body, const std::string& api_key,
                                    absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  Socket socket;
  RETURN_IF_ERROR(socket.Connect(endpoint, 0));
  RETURN_IF_ERROR(WaitFor(socket, POLLOUT, deadline));
  if (socket.ConnectError() != 0)
    return absl::UnavailableError(fmt::format("nobody listens at {}", endpoint.host_port));
  std::string request = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
                                    body.empty() ? "GET" : "POST", path, endpoint.host_port);
  if (!api_key.empty()) request += fmt::format("Authorization: Bearer {}\r\n", api_key);
  if (!body.empty())
    request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  request += "\r\n";
  request += body;
  RETURN_IF_ERROR(SendAll(socket, request, deadline));
  return Receive(socket, deadline);
}

}  // namespace sluice::load
