// Many small writes with one system call: a step's chunks for a thousand clients cost the kernel a
// thousand entries otherwise, which are a fifth of the time of a send.
#pragma once

#include <liburing.h>

#include <memory>
#include <vector>

namespace sluice {

class Wire;

// One thread only, from its creation on: the kernel interrupts the system calls of a ring's
// creator.
class SendBatch {
 public:
  // Null where the kernel has no io_uring or does not let this process use it: each wire then sends
  // by itself.
  static std::unique_ptr<SendBatch> Create();
  ~SendBatch();
  SendBatch(const SendBatch&) = delete;
  SendBatch& operator=(const SendBatch&) = delete;

  // Takes what the wire has to send; its output stays as it is until Run has told it what went out.
  void Add(Wire* wire);
  // Sends all of it, as far as the clients take it now. Never waits for a client.
  void Run();

 private:
  SendBatch() = default;

  io_uring ring_{};
  std::vector<Wire*> wires_;
};

}  // namespace sluice
