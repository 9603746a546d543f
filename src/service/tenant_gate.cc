#include "service/tenant_gate.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/errors.h"
#include "base/retry_after.h"

namespace sluice {

TenantGate::TenantGate(TenantRules rules, Metrics* metrics, const Clock* clock)
    : metrics_(metrics), clock_(clock), rules_(std::move(rules)) {
  metrics_->NameTenants(rules_.names());
}

void TenantGate::SetRules(TenantRules rules) {
  const MutexLock lock(mutex_);
  rules_ = std::move(rules);
  metrics_->NameTenants(rules_.names());
  for (auto& [tenant, state] : states_) {
    state.rule = rules_.Of(tenant);
    state.requests = state.tokens = Bucket();
  }
}

void TenantGate::Bucket::Fill(absl::Time now, double rate, double capacity) {
  if (at == absl::InfinitePast()) {
    level = capacity;
  } else if (now > at) {
    level = std::min(capacity, level + rate * absl::ToDoubleSeconds(now - at));
  }
  at = std::max(at, now);
}

absl::Status TenantGate::Refuse(const std::string& tenant, std::string_view code,
                                const std::string& message, double seconds) const {
  metrics_->CountTenantRefused(tenant, code);
  const absl::Duration retry_after = absl::Seconds(std::clamp(seconds, 0.001, 3600.0));
  return WithRetryAfter(WithErrorCode(absl::ResourceExhaustedError(message), code), retry_after);
}

absl::StatusOr<std::shared_ptr<TenantGate::Visit>> TenantGate::Enter(const std::string& tenant) {
  const absl::Time now = clock_->Now();
  const MutexLock lock(mutex_);
  const auto [found, is_new] = states_.try_emplace(tenant);
  State& state = found->second;
  if (is_new) state.rule = rules_.Of(tenant);
  const TenantRule& rule = state.rule;
  const double tokens_per_s = static_cast<double>(rule.max_tokens_per_min) / 60;
  state.requests.Fill(now, rule.max_requests_per_s, std::max(1.0, rule.max_requests_per_s));
  state.tokens.Fill(now, tokens_per_s, static_cast<double>(rule.max_tokens_per_min));
  if (rule.max_concurrent > 0 && state.num_open >= rule.max_concurrent) {
    return Refuse(tenant, "concurrent_requests",
                  fmt::format("{} requests of the tenant have not ended; the limit is {}",
                              state.num_open, rule.max_concurrent),
                  1);
  }
  if (rule.max_tokens_per_min > 0 && state.tokens.level <= 0) {
    return Refuse(
        tenant, "tokens_per_minute",
        fmt::format("the tenant has used its {} tokens of this minute", rule.max_tokens_per_min),
        (1 - state.tokens.level) / tokens_per_s);
  }
  if (rule.max_requests_per_s > 0 && state.requests.level < 1) {
    return Refuse(tenant, "requests_per_second",
                  fmt::format("the tenant may send {} requests a second", rule.max_requests_per_s),
                  (1 - state.requests.level) / rule.max_requests_per_s);
  }
  state.requests.level -= 1;
  ++state.num_open;
  return std::make_shared<Visit>(this, tenant, rule);
}

void TenantGate::Charge(const std::string& tenant, int64_t tokens, bool leaves) {
  const MutexLock lock(mutex_);
  State& state = states_[tenant];
  if (state.rule.max_tokens_per_min > 0) state.tokens.level -= static_cast<double>(tokens);
  if (leaves) --state.num_open;
}

void TenantGate::Visit::ChargePrompt(int64_t tokens) {
  charged_ += tokens;
  gate_->Charge(tenant_, tokens, false);
}

void TenantGate::Visit::Leave(const Usage& usage) {
  if (left_.exchange(true)) return;
  gate_->Charge(tenant_, usage.prompt_tokens + usage.output_tokens - charged_.load(), true);
  if (usage.prompt_tokens > 0) gate_->metrics_->CountTenantTokens(tenant_, usage);
}

}  // namespace sluice
