// Who shares the engine, and what each has had of it: a virtual counter a tenant, charged for
// prompt tokens, output tokens and the KV blocks that are held, divided by the tenant's weight. The
// tenant with the lowest counter is next. Engine thread only. Source: the virtual token counter of
// "Fairness in Serving Large Language Models", arXiv:2401.00588.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace sluice {

// What is charged. An output token is a row of its own in a step that reads all weights; a KV block
// is paid for in every step that reads it.
inline constexpr int64_t kPromptTokenCost = 8, kOutputTokenCost = 16, kBlockStepCost = 1;
inline constexpr int32_t kMaxTenantWeight = 100;

struct Tenant {
  int32_t number = 0;            // unique; order of first appearance
  int32_t weight = 1;            // 1 to kMaxTenantWeight
  int32_t num_sequences = 0;     // that have not ended
  int32_t num_open_prompts = 0;  // of them, those with tokens that no plan holds, but for the next
                                 // one to generate: the tenant wants service
  int32_t num_waiting = 0;
  int64_t num_waiting_tokens = 0;
  int64_t num_rows = 0, num_blocks = 0;  // that its running sequences hold
  int64_t cost = 0;                      // ever charged
  int64_t served = 0;                    // virtual: cost by weight, and what idle time forfeits

  void Charge(int64_t more) {
    cost += more;
    served += Virtual(more);
  }
  // What a cost is on this tenant's counter.
  [[nodiscard]] int64_t Virtual(int64_t of_cost) const { return of_cost * (kScale / weight); }

 private:
  static constexpr int64_t kScale = 1 << 14;  // a counter lasts for years of 100,000 tokens/s
};

class Tenants {
 public:
  // `credit`: the cost that a tenant may lag behind when it comes back, however long it was idle.
  explicit Tenants(int64_t credit) : credit_(credit) {}

  // Counts a new sequence; the last weight given counts.
  Tenant* Enter(const std::string& name, int32_t weight);
  void Leave(Tenant* tenant) { --tenant->num_sequences; }

  // A prompt opens or closes. A tenant that had none open is lifted to the least served of those
  // that have, less its credit: time without demand banks nothing more.
  void Open(Tenant* tenant);
  void Close(Tenant* tenant);

  // Whether `other` has had far more than `tenant` when its counter was `served`: half a credit,
  // for the other half may have gone into what it generates besides.
  [[nodiscard]] bool Leads(const Tenant& other, const Tenant& tenant, int64_t served) const {
    return other.served - served >= tenant.Virtual(credit_) / 2;
  }

  // The tenant with several rows that holds the most, by weight, of rows or blocks; null: none.
  [[nodiscard]] const Tenant* Richest(int64_t Tenant::* holding) const;

  [[nodiscard]] const std::map<std::string, Tenant>& all() const { return tenants_; }

 private:
  void ForgetIdle();

  const int64_t credit_;
  std::map<std::string, Tenant> tenants_;
  int32_t last_number_ = 0;
  int64_t last_served_ = 0;  // the highest counter with which a tenant closed its last prompt
  size_t forget_at_size_ =
      64;  // of tenants_; doubles with what remains, so that forgetting costs O(1) a tenant
};

}  // namespace sluice
