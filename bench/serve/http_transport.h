// Exchanges as HTTP/1.1 requests to an OpenAI-compatible server, one a connection at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench/serve/options.h"
#include "bench/serve/socket.h"
#include "bench/serve/transport.h"

namespace sluice::load {

class HttpTransport final : public Transport {
 public:
  // Both outlive it. `epoll`: the descriptor that reports to Pollables.
  HttpTransport(const LoadOptions& options, const Endpoint& endpoint, int epoll,
                ExchangeEvents& events);
  ~HttpTransport() override;

  [[nodiscard]] bool HasRoom() const override;
  void Start(Exchange& exchange, int64_t now_ns) override;
  void Cancel(Exchange& exchange) override;
  void Resume(int64_t connection, int64_t now_ns) override;
  void OpenIdle(int64_t count) override;
  [[nodiscard]] int64_t NumIdle() const override { return num_held_; }
  void CollectClosed() override;
  [[nodiscard]] int64_t NumOpened() const override { return next_id_; }

 private:
  class Connection;

  // nullptr where it fails at once; `why` says so.
  Connection* Open(int receive_buffer, std::string& why);
  void Remove(Connection& connection);

  const LoadOptions& options_;
  const Endpoint& endpoint_;
  const int epoll_;
  ExchangeEvents& events_;
  std::string head_;  // of every request, up to the value of Content-Length
  int64_t next_id_ = 0;
  int64_t num_held_ = 0;     // idle connections that are open
  int64_t num_holding_ = 0;  // those and the ones that still connect
  std::vector<char> buffer_;
  std::unordered_map<int64_t, std::unique_ptr<Connection>> connections_;
  std::vector<Connection*> free_;  // connected, without an exchange
  std::vector<std::unique_ptr<Connection>> closed_;
};

}  // namespace sluice::load
