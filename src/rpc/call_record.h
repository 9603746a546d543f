// What every call of sluice.v1.Inference has: a caller, a request id, one log line and one count
// when it is gone.
#pragma once

#include <grpcpp/support/status.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/api_keys.h"
#include "base/clock.h"
#include "metrics/metrics.h"
#include "rpc/call.h"
#include "sluice/service.h"

namespace sluice::rpc {

// The server reads a client's deadline off the wire and so counts it from a moment later than the
// client does. A client that leaves within this time of it, left because of it.
inline constexpr absl::Duration kDeadlineTransit = absl::Milliseconds(250);

// What the calls share. Owners: the server, and every call, for work of a call that waits on the
// prepare pool may outlive the server. The things pointed to outlive all calls.
struct Environment {
  Service* service;
  const ApiKeys* keys;
  Metrics* metrics;
  const Clock* clock;
  absl::Duration write_timeout;
  absl::Duration default_deadline;  // zero: none
  int64_t max_calls;
  std::atomic<int64_t> open_calls{0};
};

// Not thread-safe: its call guards it. The context may be touched until the call has been finished.
class CallRecord {
 public:
  // `env` outlives the record.
  CallRecord(Environment* env, std::string_view method, CallContext* context);
  // Writes the log line and counts the call.
  ~CallRecord();
  CallRecord(const CallRecord&) = delete;
  CallRecord& operator=(const CallRecord&) = delete;

  // Errors: Unauthenticated (key missing or wrong), ResourceExhausted (too many calls open).
  absl::Status Admit();

  // The ids of the message. The request id of the metadata, if sound, goes before the message's;
  // empty ids are none. Errors: InvalidArgument for an id that is not 1 to 128 visible ASCII
  // characters.
  absl::Status TakeIds(std::string request_id, std::string_view idempotency_key);

  // "x-request-id" for the client. Before the first write; later calls do nothing.
  void AddInitialMetadata();

  // The call's status, with retry-after, error code and field as trailing metadata, and a
  // RetryInfo; remembered for the log line.
  grpc::Status Close(const absl::Status& status, absl::Duration retry_after = absl::ZeroDuration());

  // The client's deadline on the server's clock; where it set none, the configured one, or
  // InfiniteFuture.
  [[nodiscard]] absl::Time Deadline() const;
  // Whether a client that goes away now goes because of its deadline, by the real clock.
  [[nodiscard]] bool DeadlinePassed() const;

  void SetUsage(const Usage& usage) { usage_ = usage; }
  void SawOutput();  // the time of the first one is logged

  [[nodiscard]] const std::string& request_id() const { return request_id_; }
  [[nodiscard]] const Identity& caller() const { return caller_; }

 private:
  Environment* const env_;
  const std::string_view method_;
  CallContext* const context_;
  const std::string peer_;
  const absl::Time begin_;
  absl::Time first_output_ = absl::InfiniteFuture();
  bool has_initial_metadata_ = false;
  bool has_client_id_ = false;  // the metadata named a sound request id
  std::string request_id_;
  Identity caller_;
  Usage usage_;
  absl::Status status_;
};

}  // namespace sluice::rpc
