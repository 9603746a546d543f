// What an operator grants each tenant: the tenants file. Immutable values.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice {

struct TenantRule {
  int32_t weight = 1;              // share of the engine against the others', 1 to 100
  double max_requests_per_s = 0;   // 0: no limit, as below
  int64_t max_tokens_per_min = 0;  // prompt and output
  int64_t max_concurrent = 0;      // requests that have not ended
  double max_queue_share = 1;      // of max-waiting-requests and max-waiting-tokens, (0, 1]
  int32_t best_priority = std::numeric_limits<int32_t>::min();  // a request asks for no better one
};

class TenantRules {
 public:
  // Without a file every tenant has the same rule. Where callers have keys it leaves half of the
  // waiting queue to others and takes no priority better than 0; where they have none they are one
  // tenant, which is bound by nothing.
  explicit TenantRules(bool with_keys);

  // The file is TOML: `[[tenant]]` tables with `name`, and one `[default]` for all others, each
  // with the keys `weight`, `max-requests-per-s`, `max-tokens-per-min`, `max-concurrent`,
  // `max-queue-share` and `best-priority`; what a tenant does not set is the default's. Empty path:
  // as above. Errors: NotFound, InvalidArgument with file, tenant, key and what is allowed.
  static absl::StatusOr<TenantRules> Load(const std::string& path, bool with_keys);

  [[nodiscard]] const TenantRule& Of(const std::string& tenant) const;
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  TenantRule default_;
  std::map<std::string, TenantRule> by_name_;
};

}  // namespace sluice
