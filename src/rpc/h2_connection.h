// The life of one connection of the gRPC server over nghttp2.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/asio.h"
#include "net/wire.h"
#include "rpc/h2_session.h"
#include "rpc/h2_shard.h"

namespace sluice::rpc {

// The shard's thread only, but for OnThread and Post.
class H2Connection final : public H2Host, public std::enable_shared_from_this<H2Connection> {
 public:
  H2Connection(H2Context* context, H2Shard* shard, sluice::Transport transport, std::string peer);
  ~H2Connection() override;

  // Runs until the connection ends; the coroutine keeps it alive.
  static void Spawn(std::shared_ptr<H2Connection> connection);

  void Sweep(SteadyTime now);
  void Say(H2Shard::Farewell farewell);
  // Sends what its streams have to say; with a batch, which is run soon.
  void Flush(SendBatch* batch);
  bool dirty = false;  // the shard's

  // --- H2Host
  [[nodiscard]] EventBook* events() override { return &shard_; }
  [[nodiscard]] std::string peer() override { return peer_; }
  [[nodiscard]] bool OnThread() override { return shard_.OnThread(); }
  void Post(std::function<void()> work) override { asio::post(shard_.io(), std::move(work)); }
  void MarkDirty() override { shard_.MarkDirty(this); }
  [[nodiscard]] const H2Method* Find(const std::string& path) override;
  bool EnterStream() override;
  void LeaveStream() override { context_.num_streams.fetch_sub(1); }

 private:
  asio::awaitable<void> Run();
  asio::awaitable<void> Serve();

  H2Context& context_;
  H2Shard& shard_;
  const std::string peer_;
  Wire wire_;
  bool ready_ = false;  // the handshake is over
  H2Session session_;
};

}  // namespace sluice::rpc
