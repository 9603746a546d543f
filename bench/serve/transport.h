// How exchanges reach a server: one implementation a protocol.
#pragma once

#include <cstdint>
#include <string_view>

#include "bench/serve/exchange.h"

namespace sluice::load {

// Something that epoll watches, by its address.
class Pollable {
 public:
  virtual ~Pollable() = default;
  virtual void OnEvents(uint32_t events, int64_t now_ns) = 0;
};

// Whom a transport tells, on the one thread of a run.
class ExchangeEvents {
 public:
  virtual ~ExchangeEvents() = default;
  // A piece of output arrived.
  virtual void OnText(Exchange& exchange, std::string_view text, int64_t now_ns) = 0;
  // Raw bytes arrived, with so many data lines by the counter that knows no protocol.
  virtual void OnBytes(int64_t bytes, int64_t data_lines) = 0;
  // The last word on `exchange`; its `error` says how it ended. The transport forgets it.
  virtual void OnEnd(Exchange& exchange, int64_t now_ns) = 0;
  // Wants Transport::Resume(connection) at that time.
  virtual void OnPause(int64_t connection, int64_t until_ns) = 0;
};

// Makes exchanges over connections that one epoll watches. One thread.
class Transport {
 public:
  virtual ~Transport() = default;
  // Whether Start would take one more.
  [[nodiscard]] virtual bool HasRoom() const = 0;
  // Sends `exchange`, which stays the caller's and lives until its OnEnd. May end it at once.
  virtual void Start(Exchange& exchange, int64_t now_ns) = 0;
  // Gives `exchange` up: closes or resets what carries it. There will be no OnEnd.
  virtual void Cancel(Exchange& exchange) = 0;
  virtual void Resume(int64_t connection, int64_t now_ns) = 0;
  // Opens connections that send nothing, and keeps them. How many of them are open.
  virtual void OpenIdle(int64_t count) = 0;
  [[nodiscard]] virtual int64_t NumIdle() const = 0;
  // Frees connections that closed since the last call; none of their events may be pending.
  virtual void CollectClosed() = 0;
  // Connections opened so far.
  [[nodiscard]] virtual int64_t NumOpened() const = 0;
};

}  // namespace sluice::load
