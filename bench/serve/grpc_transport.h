// Exchanges as calls over gRPC, many over few HTTP/2 connections.
// libnghttp2 underneath: grpc++ costs its client more CPU a message than the server needs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench/serve/grpc_dialect.h"
#include "bench/serve/options.h"
#include "bench/serve/socket.h"
#include "bench/serve/transport.h"

namespace sluice::load {

class GrpcTransport final : public Transport {
 public:
  // As HttpTransport's. options.grpc_connections are opened as they are needed; at most
  // options.max_connections calls run at once. `dialect` outlives this.
  GrpcTransport(const LoadOptions& options, const Endpoint& endpoint, int epoll,
                GrpcDialect* dialect, ExchangeEvents& events);
  ~GrpcTransport() override;

  [[nodiscard]] bool HasRoom() const override;
  void Start(Exchange& exchange, int64_t now_ns) override;
  void Cancel(Exchange& exchange) override;
  void Resume(int64_t /*connection*/, int64_t /*now_ns*/) override {}  // no call is paused
  void OpenIdle(int64_t /*count*/) override {}
  [[nodiscard]] int64_t NumIdle() const override { return 0; }
  void CollectClosed() override;
  [[nodiscard]] int64_t NumOpened() const override { return num_opened_; }

 private:
  struct Call;
  class Connection;

  // The next one in turn; opened if it is not. nullptr and `why` where that fails at once.
  Connection* Pick(int64_t now_ns, std::string& why);
  void End(Call& call, int64_t now_ns);

  const LoadOptions& options_;
  const Endpoint& endpoint_;
  const int epoll_;
  GrpcDialect* const dialect_;
  ExchangeEvents& events_;
  const std::string authorization_;
  int64_t num_opened_ = 0, next_call_ = 0;
  size_t turn_ = 0;
  std::vector<std::unique_ptr<Connection>> connections_;  // null: not open
  std::unordered_map<int64_t, std::unique_ptr<Call>> calls_;
  std::vector<std::unique_ptr<Connection>> closed_;
  std::vector<char> buffer_;
};

}  // namespace sluice::load
