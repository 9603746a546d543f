// ModelStreamInfer: each request of the stream is an InferCall of its own, and this is what carries
// them.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <string>
#include <unordered_set>

#include "rpc/infer_call.h"

namespace sluice::rpc {

class InferStream;

// The streams that are open: one that its client keeps for later must not hold up the end of the
// server. Thread-safe.
class InferStreams {
 public:
  // False: the server shuts down.
  bool Enter(InferStream* stream);
  void Remove(InferStream* stream);
  // Each stream ends with its last request. No more enter.
  void Shutdown();

 private:
  Mutex mutex_;
  std::unordered_set<InferStream*> open_ ABSL_GUARDED_BY(mutex_);
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
};

// Requests run side by side, as many as kMaxOpenRequests; the next is read when there is room. The
// end of the stream, or of the client, is that of all its requests. Thread-safe. Lock order: an
// InferCall's mutex, or InferStreams', before this one.
class InferStream final : public Call {
 public:
  // `streams` outlives this.
  InferStream(std::shared_ptr<Environment> env, InferStreams* streams, CallContext* context);
  ~InferStream() override;

  void Start(const grpc::ByteBuffer& request) override;
  void OnRequest(const grpc::ByteBuffer& request) override;
  void OnRequestsDone() override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // Asks for no more requests, and ends with the last one.
  void Shutdown();

 private:
  class Item;
  // A message that waits to be written.
  struct Entry {
    Item* item;
    bool last;  // of its request
  };

  void Enqueue(Item* item, bool last);
  // Writes the next message, if none is in flight; finishes when nothing is left.
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // These tell calls things, and so not under mutex_. Release: a user of `item` is through with it;
  // the last one of an item that is over ends it.
  void Release(Item* item);
  void End(Item* item);
  // Gives up all requests, then the stream.
  void Abandon(const absl::Status& status);

  const std::shared_ptr<Environment> env_;  // before record_, which uses it to the last
  InferStreams* const streams_;
  // What the requests ask of the stream's context, which goes before the last of them does.
  const std::string peer_, authorization_;
  const absl::Time deadline_;
  EventBook* const events_;

  Mutex mutex_;
  CallContext* const context_ ABSL_PT_GUARDED_BY(mutex_);
  CallRecord record_ ABSL_GUARDED_BY(mutex_);
  std::list<std::unique_ptr<Item>> items_ ABSL_GUARDED_BY(mutex_);
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mutex_);  // of items_
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time busy_since_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // of that write
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;  // the next request has been asked for
  bool no_more_ ABSL_GUARDED_BY(mutex_) = false;  // the client has said all
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // not OK: the stream has been given up
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::rpc
