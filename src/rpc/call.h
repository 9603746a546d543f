// The seam between a gRPC call and the transport that carries it: what a call does stands once,
// behind grpc++ and behind nghttp2 alike.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice::rpc {

class EventBook;

// A call as its transport offers it. Not thread-safe: its Call guards it. Until the call has been
// finished it may be touched, from any thread; after that, until OnDone, TryCancel only.
class CallContext {
 public:
  virtual ~CallContext() = default;

  [[nodiscard]] virtual std::string Peer() const = 0;
  // A value of the request's metadata, and how often it is there; "" where it is not.
  [[nodiscard]] virtual std::string Metadata(const char* name) const = 0;
  [[nodiscard]] virtual size_t CountMetadata(const char* name) const = 0;
  // On the real clock; InfiniteFuture: the client set none.
  [[nodiscard]] virtual absl::Time Deadline() const = 0;
  // The queue that the call's events are to come by.
  [[nodiscard]] virtual EventBook* events() = 0;

  virtual void AddInitialMetadata(const std::string& name, const std::string& value) = 0;
  virtual void AddTrailingMetadata(const std::string& name, const std::string& value) = 0;

  // Makes `message` the one that StartWrite or FinishWithMessage sends. No write is in flight.
  // Errors: Internal where it does not fit the wire format (2 GiB).
  virtual absl::Status Encode(const google::protobuf::Message& message) = 0;
  virtual void StartWrite() = 0;  // OnWriteDone follows
  // Where the client streams: asks for its next request. OnRequest or OnRequestsDone follows, but
  // not from within this.
  virtual void StartRead() {}
  virtual void FinishWithMessage(grpc::Status status) = 0;
  virtual void Finish(grpc::Status status) = 0;
  // Gives the call up: OnCancel, and OnWriteDone(false) for a write in flight, follow later.
  virtual void TryCancel() = 0;
};

// What a transport tells a call. It shares the call until OnDone. Thread-safe where the client
// streams: what comes of a read, of a write and of a cancellation may come at once.
class Call {
 public:
  virtual ~Call() = default;
  // Once, before the others.
  virtual void Start(const grpc::ByteBuffer& request) = 0;
  // The client has gone, or its deadline has passed. The call has finished when this returns; with
  // a write in flight, when the OnWriteDone(false) that follows returns.
  virtual void OnCancel() = 0;
  virtual void OnWriteDone(bool /*ok*/) {}
  // What StartRead asked for: the next request, or that there are no more.
  virtual void OnRequest(const grpc::ByteBuffer& /*request*/) {}
  virtual void OnRequestsDone() {}
  // The finish is over: the context goes when this returns. Takes the lock that guards the context,
  // for another thread may still be on its way out of Finish.
  virtual void OnDone() = 0;
};

}  // namespace sluice::rpc
