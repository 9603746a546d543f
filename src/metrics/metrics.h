// Every metric of the server, from one table (metric_table.h) that is also docs/api/metrics.md.
// Thread-safe: updates are atomics or short locks, and rendering never touches the engine thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "sluice/types.h"

namespace sluice {

// Four counters that only grow, so that the difference can be read without a lock and is never
// positive in error: a stream is opened before and closed after its engine requests. Orphans =
// engine requests whose stream has gone.
class OrphanAudit {
 public:
  // Front ends: a client's call begins; its End was taken off the queue.
  void StreamOpened() { opened_.fetch_add(1); }
  void StreamClosed() { closed_.fetch_add(1); }
  // Engine: a request entered (inbox included); all of its sequences left the scheduler.
  void EngineAdded() { added_.fetch_add(1); }
  void EngineRemoved() { removed_.fetch_add(1); }
  // Reads closed and added before removed and opened: whatever happens meanwhile only lowers the
  // result.
  [[nodiscard]] int64_t Orphans() const;
  [[nodiscard]] int64_t OpenStreams() const { return opened_.load() - closed_.load(); }

 private:
  std::atomic<int64_t> opened_{0}, closed_{0}, added_{0}, removed_{0};
};

struct EngineGauges {
  int64_t running = 0, waiting = 0, waiting_tokens = 0;
  int64_t kv_free_blocks = 0, kv_cached_blocks = 0, kv_referenced_blocks = 0;
  int64_t preemptions = 0, prefix_queries = 0, prefix_hits = 0;  // ever
};

// Of one device of an accelerator. What it does not tell is absent, and so are its series.
struct DeviceGauges {
  std::optional<double> utilisation;  // 0 to 1
  std::optional<uint64_t> memory_used_bytes, memory_total_bytes;
  std::optional<double> power_watts, power_limit_watts, temperature_celsius;
  std::optional<double> clock_hertz, memory_clock_hertz;
  std::optional<uint64_t> corrected_errors, uncorrected_errors, xid_errors;  // ever
  bool lost = false;                                                         // it does not answer
};

class Metrics {
 public:
  // `alias`: "" or "vllm". `model`: the value of the label model_name.
  Metrics(std::string model, std::string_view alias);
  ~Metrics();

  // Another model of this process: its series join this page, the audit is shared. Facts of the
  // process (front ends, readiness, build) stay with the first. May outlive the first. The series
  // of a name leave the page with the last Metrics of that name.
  [[nodiscard]] std::unique_ptr<Metrics> ForModel(std::string model) const;

  OrphanAudit& orphans;

  // Engine thread, once a step, before its events go out: shows what was counted by token, too.
  void SetEngine(const EngineGauges& gauges);
  void CountStep(int64_t tokens, absl::Duration device_time);
  void CountSimulatedStep(absl::Duration busy, absl::Duration idle);
  // Engine thread, by request.
  void CountPromptTokens(int64_t tokens);
  void CountEmbeddedInput();  // a text or pair whose vector or score is computed
  void ObserveQueueTime(absl::Duration time);
  void ObserveTtft(absl::Duration time);
  void ObserveTpot(absl::Duration time);
  // Engine thread, by token: collected until SetEngine, so that a token costs no lock.
  void CountOutputTokens(int64_t tokens) { step_.output_tokens += tokens; }
  void ObserveItl(absl::Duration gap, int64_t tokens);
  // Engine thread, by request.
  void ObserveEnd(FinishReason reason, absl::Duration e2e, const Usage& usage);
  // By tenant: only those that an operator has named have series.
  void NameTenants(const std::vector<std::string>& names);  // thread-safe; for all models
  void SetTenantWaiting(const std::string& tenant, int64_t sequences);  // engine thread
  void CountTenantTokens(const std::string& tenant, const Usage& usage);
  void CountTenantRefused(const std::string& tenant, std::string_view limit);
  void SetFairness(double jain_index);
  // Front ends. `route` comes from the route table, never from the client.
  void CountHttpRequest(std::string_view route, int http_status, absl::Duration time);
  void CountRpc(std::string_view method, std::string_view code, absl::Duration time);
  void CountRefused(std::string_view reason);  // "queue_full", "draining", "invalid", ...
  void SetConnections(std::string_view protocol, int64_t open);
  // Whoever watches the devices: one thread.
  void SetDevice(int device, const DeviceGauges& gauges);
  // Process facts, set once.
  void SetBuildInfo(std::string_view version, std::string_view backend, std::string_view isa);
  void SetCacheConfig(int64_t block_tokens, int64_t num_blocks);
  void SetSimulated(bool simulated);
  void SetReady(bool ready);

  // The whole page in Prometheus' text format 0.0.4.
  [[nodiscard]] std::string Render() const;

  // docs/api/metrics.md's table, from the same definitions.
  static std::string DocumentationTable();

 private:
  class Page;
  class Impl;
  Metrics(std::string model, std::shared_ptr<Page> page, bool first);

  // Of a step, by token; engine thread only.
  struct StepCounts {
    int64_t output_tokens = 0;
    int64_t gaps = 0;
    double gap_seconds = 0;
    std::vector<double> gaps_by_bucket;
  };
  void FlushStep();

  StepCounts step_;
  const std::shared_ptr<Page> page_;  // owners: the Metrics of every model
  const std::unique_ptr<Impl> impl_;
};

}  // namespace sluice
