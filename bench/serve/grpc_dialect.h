// What calls over gRPC say: one implementation a protocol.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "bench/serve/exchange.h"
#include "bench/serve/options.h"
#include "bench/serve/transport.h"

namespace sluice::load {

// One thread.
class GrpcDialect {
 public:
  // That of options.protocol: grpc or kserve. Errors: InvalidArgument (extra_body).
  static absl::StatusOr<std::unique_ptr<GrpcDialect>> Create(const LoadOptions& options,
                                                             const std::string& model);
  virtual ~GrpcDialect() = default;

  [[nodiscard]] virtual std::string_view path() const = 0;
  // The one message of a request, without gRPC's prefix.
  [[nodiscard]] virtual std::string Encode(const Exchange& exchange) const = 0;
  // Takes one message of the answer into `exchange`, and tells `events` of its text.
  virtual void Take(std::string_view message, Exchange& exchange, int64_t now_ns,
                    ExchangeEvents& events) = 0;
};

}  // namespace sluice::load
