#include "rpc/h2_connection.h"

#include <exception>
#include <utility>

#include "base/logging.h"

namespace sluice::rpc {
namespace {

constexpr size_t kReadAheadBytes = 64U << 10U;
// Taken off nghttp2 for one send. What the client does not take waits in its streams, where a
// stream's tokens merge.
constexpr size_t kMaxOutput = 64U << 10U;
constexpr int kFeedsPerTurn = 8;       // then other connections get a turn
constexpr int64_t kSpareStreams = 64;  // over one a call, to be told why there is no place

SteadyDuration Seconds(double seconds) {
  return std::chrono::duration_cast<SteadyDuration>(std::chrono::duration<double>(seconds));
}

}  // namespace

H2Connection::H2Connection(H2Context* context, H2Shard* shard, sluice::Transport transport,
                           std::string peer)
    : context_(*context),
      shard_(*shard),
      peer_(std::move(peer)),
      wire_(std::move(transport), kReadAheadBytes, Seconds(context->config.write_timeout_s)),
      session_(this, context->limits) {}

H2Connection::~H2Connection() { shard_.Remove(this); }

void H2Connection::Spawn(std::shared_ptr<H2Connection> connection) {
  H2Connection* const self = connection.get();
  self->wire_.Attach(connection, {}, [self] { self->Flush(nullptr); });
  const auto run = [connection = std::move(connection)]() -> asio::awaitable<void> {
    co_await connection->Run();
  };
  asio::co_spawn(self->shard_.io(), run, asio::detached);
}

asio::awaitable<void> H2Connection::Run() {
  try {
    co_await Serve();
  } catch (const std::exception& e) {  // out of memory, or a broken promise of a library
    Log(LogLevel::kError, "grpc_connection_failed", {{"error", e.what()}});
  }
  wire_.Break();
  session_.Lost();
}

asio::awaitable<void> H2Connection::Serve() {
  wire_.SetReadDeadline(std::chrono::steady_clock::now() + Seconds(context_.config.read_timeout_s));
  const bool connected = co_await wire_.Handshake();
  if (!connected || !wire_.speaks("h2")) co_return;
  ready_ = true;
  Flush(nullptr);
  int num_feeds = 0;
  while (!session_.over()) {
    wire_.PumpInput();
    if (!wire_.input().empty()) {
      session_.Feed(wire_.input());
      wire_.input().clear();
      Flush(nullptr);
      if (session_.greeted()) wire_.ClearReadDeadline();
      if (++num_feeds % kFeedsPerTurn == 0) co_await asio::post(shard_.io(), asio::use_awaitable);
      continue;
    }
    if (wire_.closed() || wire_.timed_out()) co_return;
    wire_.ReleaseMemory();
    co_await wire_.Wait();
  }
  session_.Lost();
  while (wire_.blocked() && !wire_.closed()) co_await wire_.Wait();
  if (!wire_.closed()) co_await wire_.Close(session_.terminated());
}

void H2Connection::Flush(SendBatch* batch) {
  // One a thread: an idle connection holds none.
  static thread_local std::string out;
  if (!ready_ || wire_.broken()) return;
  bool more = true;
  while (more && !wire_.blocked() && !wire_.broken()) {
    out.clear();
    more = session_.Pull(out, kMaxOutput);
    wire_.Append(out);
    wire_.Flush(batch);
    if (batch == nullptr) continue;
    if (more) MarkDirty();  // for when the batch has been sent
    break;
  }
  session_.Settle();
  if (session_.over()) wire_.Wake();
}

void H2Connection::Sweep(SteadyTime now) {
  wire_.Sweep(now);
  session_.Sweep(now);
  if (session_.over()) wire_.Wake();
}

void H2Connection::Say(H2Shard::Farewell farewell) {
  session_.Drain();
  if (farewell == H2Shard::Farewell::kCancel) session_.CancelStreams();
  if (farewell == H2Shard::Farewell::kBreak) wire_.Break();
}

const H2Method* H2Connection::Find(const std::string& path) {
  const auto found = context_.methods.find(path);
  return found == context_.methods.end() ? nullptr : &found->second;
}

bool H2Connection::EnterStream() {
  if (context_.num_streams.fetch_add(1) < 2 * context_.config.max_connections + kSpareStreams)
    return true;
  context_.num_streams.fetch_sub(1);
  return false;
}

}  // namespace sluice::rpc
