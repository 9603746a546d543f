#include "rpc/h2_shard.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "rpc/h2_connection.h"

namespace sluice::rpc {
namespace {

// Connections written before epoll is looked at again.
constexpr size_t kWritesPerTurn = 128;
constexpr std::chrono::seconds kSweepInterval{1};  // of calls

std::shared_ptr<Stage> NewStage(StageWatch* stages, const char* name) {
  return stages == nullptr ? std::make_shared<Stage>("") : stages->Add(name);
}

// As grpc++ writes it: "ipv4:127.0.0.1:5000".
std::string PeerName(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "unknown";
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
    return fmt::format("ipv6:[{}]:{}", text.data(), ntohs(v6.sin6_port));
  }
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
  inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
  return fmt::format("ipv4:{}:{}", text.data(), ntohs(v4.sin_port));
}

}  // namespace

H2Shard::H2Shard(H2Context* context, StageWatch* stages)
    : EventBook(&context->metrics->orphans, NewStage(stages, "gRPC events"),
                absl::Seconds(context->config.stall_timeout_s),
                PlantedStall(context->config.plant_fault, "pump")),
      context_(*context),
      thread_(&context->config, context->clock, NewStage(stages, "gRPC I/O"),
              [this](SteadyTime now) { Sweep(now); }) {}

H2Shard::~H2Shard() { Stop(); }

void H2Shard::Stop() {
  Close();
  thread_.Stop();
  thread_.Join();
}

void H2Shard::Wake() {
  asio::post(io(), [this] {
    draining_ = true;  // the round's writes are sent below, in one go
    Round();
    draining_ = false;
    FlushDirty();
  });
}

void H2Shard::MarkDirty(H2Connection* connection) {
  if (!std::exchange(connection->dirty, true)) dirty_.push_back(connection);
  if (!draining_) PostFlush();
}

void H2Shard::PostFlush() {
  if (std::exchange(flush_posted_, true)) return;
  asio::post(io(), [this] {
    flush_posted_ = false;
    FlushDirty();
  });
}

void H2Shard::FlushDirty() {
  SendBatch* const batch = thread_.batch();
  // What becomes dirty meanwhile has its turn after the batch.
  for (size_t left = std::min(dirty_.size(), kWritesPerTurn); left > 0; --left) {
    H2Connection* const connection = dirty_.front();
    dirty_.pop_front();
    connection->dirty = false;
    connection->Flush(batch);
  }
  if (batch != nullptr) batch->Run();
  if (!dirty_.empty()) PostFlush();
}

void H2Shard::Adopt(int fd) {
  context_.metrics->SetConnections("grpc", context_.num_connections.fetch_add(1) + 1);
  asio::post(io(), [this, fd] {
    boost::system::error_code error;
    asio::ip::tcp::socket socket(io());
    socket.assign(asio::ip::tcp::v4(), fd, error);  // the family is not looked at again
    SslPtr ssl;
    if (context_.tls != nullptr) ssl = context_.tls->NewConnection(fd);
    if (error || (context_.tls != nullptr && ssl == nullptr)) {
      if (error) ::close(fd);
      context_.metrics->SetConnections("grpc", context_.num_connections.fetch_sub(1) - 1);
      return;
    }
    auto connection = std::make_shared<H2Connection>(
        &context_, this, sluice::Transport(std::move(socket), std::move(ssl)), PeerName(fd));
    connections_.insert(connection.get());
    H2Connection::Spawn(std::move(connection));
  });
}

void H2Shard::Remove(H2Connection* connection) {
  connections_.erase(connection);
  if (connection->dirty) std::erase(dirty_, connection);
  context_.metrics->SetConnections("grpc", context_.num_connections.fetch_sub(1) - 1);
}

void H2Shard::Say(Farewell farewell) {
  asio::post(io(), [this, farewell] {
    for (H2Connection* connection : connections_) connection->Say(farewell);
  });
}

void H2Shard::Sweep(SteadyTime now) {
  for (H2Connection* connection : connections_) connection->Sweep(now);
  if (now < next_sweep_) return;
  next_sweep_ = now + kSweepInterval;
  SweepAll();
}

}  // namespace sluice::rpc
