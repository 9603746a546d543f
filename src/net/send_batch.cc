#include "net/send_batch.h"

#include <sys/socket.h>

#include <cerrno>

#include "base/check.h"
#include "net/wire.h"

namespace sluice {
namespace {

constexpr unsigned kEntries = 256;

}  // namespace

std::unique_ptr<SendBatch> SendBatch::Create() {
  std::unique_ptr<SendBatch> batch(new SendBatch);
  if (io_uring_queue_init(kEntries, &batch->ring_, 0) != 0) {
    batch->ring_.ring_fd = -1;
    return nullptr;
  }
  batch->wires_.reserve(kEntries);
  return batch;
}

SendBatch::~SendBatch() {
  if (ring_.ring_fd >= 0) io_uring_queue_exit(&ring_);
}

void SendBatch::Add(Wire* wire) {
  if (wires_.size() == kEntries) Run();
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  SLUICE_CHECK(entry != nullptr, "no entry for wire {}", wires_.size());
  const std::string_view bytes = wire->unsent();
  // With MSG_DONTWAIT a send is over when it has been submitted, so that Run finds its result.
  io_uring_prep_send(entry, wire->fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  io_uring_sqe_set_data64(entry, wires_.size());
  wires_.push_back(wire);
}

void SendBatch::Run() {
  if (wires_.empty()) return;
  std::vector<int> results(wires_.size(), -EAGAIN);
  size_t known = 0;
  while (known < wires_.size()) {
    const int submitted = io_uring_submit_and_wait(&ring_, 1);
    SLUICE_CHECK(
        submitted >= 0 || submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY,
        "io_uring_submit: {}", submitted);
    unsigned head = 0, seen = 0;
    io_uring_cqe* done = nullptr;
    io_uring_for_each_cqe(&ring_, head, done) {
      results[io_uring_cqe_get_data64(done)] = done->res;
      ++seen;
    }
    io_uring_cq_advance(&ring_, seen);
    known += seen;
  }
  // Only now: what a wire does about its result may add to the next batch.
  const std::vector<Wire*> wires = std::move(wires_);
  wires_.clear();
  for (size_t i = 0; i < wires.size(); ++i) wires[i]->Sent(results[i]);
}

}  // namespace sluice
