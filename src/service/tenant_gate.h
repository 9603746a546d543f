// The limits of tenants at the Service's door: requests a second, tokens a minute, requests at
// once. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "metrics/metrics.h"
#include "service/tenant_rules.h"
#include "sluice/types.h"

namespace sluice {

class TenantGate {
 public:
  class Visit;

  // Metrics and clock outlive the gate, which outlives its visits.
  TenantGate(TenantRules rules, Metrics* metrics, const Clock* clock);

  void SetRules(TenantRules rules);

  // One request comes in. Errors: ResourceExhausted with code "requests_per_second",
  // "tokens_per_minute" or "concurrent_requests", which says when to try again.
  absl::StatusOr<std::shared_ptr<Visit>> Enter(const std::string& tenant);

 private:
  // So much a second, up to what it holds; it may owe.
  struct Bucket {
    double level = 0;
    absl::Time at = absl::InfinitePast();  // of level
    void Fill(absl::Time now, double rate, double capacity);
  };
  struct State {
    TenantRule rule;
    Bucket requests, tokens;
    int64_t num_open = 0;
  };

  absl::Status Refuse(const std::string& tenant, std::string_view code, const std::string& message,
                      double seconds) const;
  void Charge(const std::string& tenant, int64_t tokens, bool leaves);

  Metrics* const metrics_;
  const Clock* const clock_;
  Mutex mutex_;
  TenantRules rules_ ABSL_GUARDED_BY(mutex_);
  // As many as tenants have keys.
  std::map<std::string, State> states_ ABSL_GUARDED_BY(mutex_);
};

// A request that is inside. Thread-safe. Owners: the request on its way to the engine, then the
// engine's until its end.
class TenantGate::Visit {
 public:
  Visit(TenantGate* gate, std::string tenant, const TenantRule& rule)
      : gate_(gate), tenant_(std::move(tenant)), rule_(rule) {}
  ~Visit() { Leave({}); }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

  [[nodiscard]] const TenantRule& rule() const { return rule_; }  // as it was on entering
  void ChargePrompt(int64_t tokens);
  // It has ended: what it had of tokens is charged, but for the prompt that was. Once; later calls
  // do nothing.
  void Leave(const Usage& usage);

 private:
  TenantGate* const gate_;
  const std::string tenant_;
  const TenantRule rule_;
  std::atomic<int64_t> charged_{0};
  std::atomic<bool> left_{false};
};

}  // namespace sluice
