#include "metrics/metrics.h"

#include <fmt/format.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace sluice {
namespace {

enum Id : uint8_t {
  kRunning,
  kWaiting,
  kWaitingTokens,
  kKvUsage,
  kKvBlocks,
  kPreemptions,
  kPrefixQueries,
  kPrefixHits,
  kPromptTokens,
  kOutputTokens,
  kEmbeddedInputs,
  kSteps,
  kStepTokens,
  kStepDuration,
  kSimulatedBusy,
  kSimulatedIdle,
  kRequests,
  kRefused,
  kQueueTime,
  kTtft,
  kItl,
  kTpot,
  kE2e,
  kRequestPromptTokens,
  kRequestOutputTokens,
  kTenantWaiting,
  kFairness,
  kTenantTokens,
  kTenantRefused,
  kOpenStreams,
  kOrphans,
  kHttpRequests,
  kHttpDuration,
  kRpcRequests,
  kRpcDuration,
  kConnections,
  kDeviceUtilisation,
  kDeviceMemory,
  kDevicePower,
  kDevicePowerLimit,
  kDeviceTemperature,
  kDeviceClock,
  kDeviceMemoryErrors,
  kDeviceXidErrors,
  kDeviceLost,
  kReady,
  kSimulated,
  kBuildInfo,
  kCacheInfo,
  kNumMetrics
};

enum class Type : uint8_t { kCounter, kGauge, kHistogram };

using Buckets = std::vector<double>;

// A 1-2-5 ladder from `low` up to `high`.
Buckets Ladder(double low, double high) {
  Buckets buckets;
  for (double decade = low; decade <= high * 1.0001; decade *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) {
      if (decade * step <= high * 1.0001) buckets.push_back(decade * step);
    }
  }
  return buckets;
}

struct Definition {
  Id id;
  Type type;
  const char* name;
  const char* labels;  // beside model_name
  const char* help;
  const char* vllm = nullptr;  // the name under --metrics-alias=vllm
  double first_bucket = 0, last_bucket = 0;
};

// The one table: the metrics page and its documentation.
constexpr std::array<Definition, kNumMetrics> kTable = {{
    {kRunning, Type::kGauge, "sluice_running_sequences", "", "Sequences that hold a row",
     "vllm:num_requests_running"},
    {kWaiting, Type::kGauge, "sluice_waiting_sequences", "", "Sequences waiting for a row",
     "vllm:num_requests_waiting"},
    {kWaitingTokens, Type::kGauge, "sluice_waiting_tokens", "",
     "Prompt tokens of waiting sequences"},
    {kKvUsage, Type::kGauge, "sluice_kv_cache_usage_ratio", "",
     "KV blocks in use by sequences, 0 to 1", "vllm:kv_cache_usage_perc"},
    {kKvBlocks, Type::kGauge, "sluice_kv_blocks", "state",
     "KV blocks by state: free, cached (reusable, unreferenced), referenced"},
    {kPreemptions, Type::kCounter, "sluice_preemptions_total", "",
     "Running sequences returned to waiting for lack of KV blocks", "vllm:num_preemptions_total"},
    {kPrefixQueries, Type::kCounter, "sluice_prefix_cache_queries_tokens_total", "",
     "Prompt tokens looked up in the prefix cache", "vllm:prefix_cache_queries_total"},
    {kPrefixHits, Type::kCounter, "sluice_prefix_cache_hits_tokens_total", "",
     "Prompt tokens found in the prefix cache", "vllm:prefix_cache_hits_total"},
    {kPromptTokens, Type::kCounter, "sluice_prompt_tokens_total", "",
     "Prompt tokens of admitted requests", "vllm:prompt_tokens_total"},
    {kOutputTokens, Type::kCounter, "sluice_output_tokens_total", "", "Output tokens",
     "vllm:generation_tokens_total"},
    {kEmbeddedInputs, Type::kCounter, "sluice_embedded_inputs_total", "",
     "Texts and pairs of texts whose vector or score was computed"},
    {kSteps, Type::kCounter, "sluice_steps_total", "", "Steps of the engine"},
    {kStepTokens, Type::kHistogram, "sluice_step_tokens", "", "New tokens a step", nullptr, 1,
     10000},
    {kStepDuration, Type::kHistogram, "sluice_step_duration_seconds", "", "Device time of a step",
     nullptr, 1e-4, 10},
    {kSimulatedBusy, Type::kCounter, "sluice_simulated_device_busy_seconds_total", "",
     "Time of steps on a simulated device"},
    {kSimulatedIdle, Type::kCounter, "sluice_simulated_device_idle_seconds_total", "",
     "Time between steps of a simulated device while there was a sequence to compute"},
    {kRequests, Type::kCounter, "sluice_requests_total", "finished_reason",
     "Requests that ended, by true reason", "vllm:request_success_total"},
    {kRefused, Type::kCounter, "sluice_refused_requests_total", "reason",
     "Requests refused before they ran"},
    {kQueueTime, Type::kHistogram, "sluice_queue_duration_seconds", "",
     "From submission to the first planned token", "vllm:request_queue_time_seconds", 1e-3, 100},
    {kTtft, Type::kHistogram, "sluice_ttft_seconds", "", "Request accepted to first output token",
     "vllm:time_to_first_token_seconds", 1e-3, 100},
    {kItl, Type::kHistogram, "sluice_itl_seconds", "",
     "Gap between consecutive output tokens of a sequence", "vllm:inter_token_latency_seconds",
     1e-4, 10},
    {kTpot, Type::kHistogram, "sluice_tpot_seconds", "",
     "(end to end - TTFT) / (output tokens - 1), one value a sequence",
     "vllm:request_time_per_output_token_seconds", 1e-4, 10},
    {kE2e, Type::kHistogram, "sluice_request_duration_seconds", "", "Request accepted to its end",
     "vllm:e2e_request_latency_seconds", 1e-3, 1000},
    {kRequestPromptTokens, Type::kHistogram, "sluice_request_prompt_tokens", "",
     "Prompt tokens of a request", "vllm:request_prompt_tokens", 1, 1e5},
    {kRequestOutputTokens, Type::kHistogram, "sluice_request_output_tokens", "",
     "Output tokens of a request", "vllm:request_generation_tokens", 1, 1e5},
    {kTenantWaiting, Type::kGauge, "sluice_tenant_waiting_sequences", "tenant",
     "Sequences waiting for a row, by tenant of the tenants file"},
    {kFairness, Type::kGauge, "sluice_fairness_jain_index", "",
     "Jain's index of what tenants with a backlog were served by weight in the last 10 s: 1 is "
     "fair"},
    {kTenantTokens, Type::kCounter, "sluice_tenant_tokens_total", "tenant,kind",
     "Tokens of requests that ended, prompt or output, by tenant of the tenants file"},
    {kTenantRefused, Type::kCounter, "sluice_tenant_refused_requests_total", "tenant,limit",
     "Requests refused for a limit, by tenant of the tenants file"},
    {kOpenStreams, Type::kGauge, "sluice_open_streams", "",
     "Calls of front ends whose terminal event has not been taken"},
    {kOrphans, Type::kGauge, "sluice_orphaned_requests", "",
     "Engine requests whose stream has gone: always 0, anything else is a leak"},
    {kHttpRequests, Type::kCounter, "sluice_http_requests_total", "route,code",
     "HTTP requests by route and status"},
    {kHttpDuration, Type::kHistogram, "sluice_http_request_duration_seconds", "route",
     "HTTP request read to answer written", nullptr, 1e-3, 1000},
    {kRpcRequests, Type::kCounter, "sluice_rpc_requests_total", "method,code",
     "gRPC calls by method and status"},
    {kRpcDuration, Type::kHistogram, "sluice_rpc_request_duration_seconds", "method",
     "gRPC call start to its status", nullptr, 1e-3, 1000},
    {kConnections, Type::kGauge, "sluice_connections", "protocol", "Open client connections"},
    {kDeviceUtilisation, Type::kGauge, "sluice_device_utilisation_ratio", "device",
     "Share of the last sample period with a kernel running, 0 to 1"},
    {kDeviceMemory, Type::kGauge, "sluice_device_memory_bytes", "device,state",
     "Memory of the device by state: used (by all processes), total"},
    {kDevicePower, Type::kGauge, "sluice_device_power_watts", "device", "Power drawn"},
    {kDevicePowerLimit, Type::kGauge, "sluice_device_power_limit_watts", "device",
     "Power at which the device slows down"},
    {kDeviceTemperature, Type::kGauge, "sluice_device_temperature_celsius", "device",
     "Temperature of the chip"},
    {kDeviceClock, Type::kGauge, "sluice_device_clock_hertz", "device,domain",
     "Clock now, of compute or memory"},
    {kDeviceMemoryErrors, Type::kCounter, "sluice_device_memory_errors_total", "device,kind",
     "Errors of memory (ECC) since the driver was loaded, corrected or uncorrected"},
    {kDeviceXidErrors, Type::kCounter, "sluice_device_xid_errors_total", "device",
     "Critical errors that the driver reported (Xid) since the server started"},
    {kDeviceLost, Type::kGauge, "sluice_device_lost", "device",
     "1 when the device does not answer any more"},
    {kReady, Type::kGauge, "sluice_ready", "", "1 while the server takes new work"},
    {kSimulated, Type::kGauge, "sluice_simulated", "",
     "1 where the device is simulated: times are a model's and tokens a script's"},
    {kBuildInfo, Type::kGauge, "sluice_build_info", "version,backend,isa", "Always 1"},
    {kCacheInfo, Type::kGauge, "sluice_kv_cache_info", "block_size,num_gpu_blocks",
     "Always 1; KV block tokens and number of KV blocks", "vllm:cache_config_info"},
}};

template <class T>
constexpr bool InOrder(const T& table) {
  for (size_t i = 0; i < table.size(); i++) {
    if (table[i].id != i) return false;
  }
  return true;
}
static_assert(InOrder(kTable), "kTable is indexed by Id");

const Definition& Def(Id id) { return kTable[id]; }

// Facts of the process, which every model shares.
constexpr bool OfProcess(Id id) {
  return id == kRefused || (id >= kTenantTokens && id <= kBuildInfo);
}

std::string FinishedReason(FinishReason reason) { return std::string(FinishReasonName(reason)); }

}  // namespace

int64_t OrphanAudit::Orphans() const {
  const int64_t closed = closed_.load(), added = added_.load();
  const int64_t removed = removed_.load(), opened = opened_.load();
  const int64_t orphans = (added - removed) - (opened - closed);
  return orphans > 0 ? orphans : 0;
}

// The families of all models.
class Metrics::Page {
 public:
  struct Family {
    prometheus::Family<prometheus::Counter>* counter = nullptr;
    prometheus::Family<prometheus::Gauge>* gauge = nullptr;
    prometheus::Family<prometheus::Histogram>* histogram = nullptr;
    [[nodiscard]] bool exists() const { return counter || gauge || histogram; }
  };

  explicit Page(bool vllm) {
    for (const Definition& def : kTable) {
      Register(def, def.name, &families[def.id]);
      if (vllm && def.vllm) Register(def, def.vllm, &aliases[def.id]);
    }
  }

  void AddModel(const std::string& model) {
    const std::lock_guard lock(mutex_);
    ++owners_[model];
  }
  // The last owner's series leave the page: their pointers end here.
  void DropModel(const std::string& model) {
    const std::lock_guard lock(mutex_);
    if (--owners_[model] > 0) return;
    owners_.erase(model);
    for (const Definition& def : kTable) {
      for (const Family& family : {families[def.id], aliases[def.id]}) {
        if (family.counter) DropSeries(*family.counter, model);
        if (family.gauge) DropSeries(*family.gauge, model);
        if (family.histogram) DropSeries(*family.histogram, model, Ladder(1, 1));
      }
    }
  }

  void NameTenants(const std::vector<std::string>& names) {
    const std::lock_guard lock(mutex_);
    named_tenants_ = {names.begin(), names.end()};
  }
  bool IsNamed(const std::string& tenant) {
    const std::lock_guard lock(mutex_);
    return named_tenants_.contains(tenant);
  }

  prometheus::Registry registry;
  std::array<Family, kNumMetrics> families, aliases;
  OrphanAudit orphans;

 private:
  // Add gives the series that is there already; `unused` is what a new one would be made of.
  template <class T, class... Unused>
  static void DropSeries(prometheus::Family<T>& family, const std::string& model,
                         const Unused&... unused) {
    for (const prometheus::MetricFamily& collected : family.Collect()) {
      for (const prometheus::ClientMetric& series : collected.metric) {
        prometheus::Labels labels;
        for (const auto& label : series.label) labels.emplace(label.name, label.value);
        if (labels["model_name"] == model) family.Remove(&family.Add(labels, unused...));
      }
    }
  }

  void Register(const Definition& def, const char* name, Family* family) {
    switch (def.type) {
      case Type::kCounter:
        family->counter = &prometheus::BuildCounter().Name(name).Help(def.help).Register(registry);
        break;
      case Type::kGauge:
        family->gauge = &prometheus::BuildGauge().Name(name).Help(def.help).Register(registry);
        break;
      case Type::kHistogram:
        family->histogram =
            &prometheus::BuildHistogram().Name(name).Help(def.help).Register(registry);
        break;
    }
  }

  std::mutex mutex_;
  std::set<std::string, std::less<>> named_tenants_;
  std::map<std::string, int> owners_;  // Metrics by model name; a name may be loaded anew meanwhile
};

// One model's series.
class Metrics::Impl {
 public:
  using Labels = prometheus::Labels;

  Impl(std::string model, Page& page, bool first) : model_(std::move(model)), page_(page) {
    page_.AddModel(model_);
    for (const Definition& def : kTable) {
      if (*def.labels != '\0' || (OfProcess(def.id) && !first)) continue;
      // Unlabelled series exist from the start: a scraper sees 0, not nothing. Looked up once:
      // these are updated for every token.
      unlabelled_[def.id] = Find(page.families[def.id], def, {});
      unlabelled_aliases_[def.id] = Find(page.aliases[def.id], def, {});
    }
  }

  ~Impl() { page_.DropModel(model_); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Add(Id id, double value, const Labels& labels = {}) {
    Each(id, labels, [&](const Series& s) { s.counter->Increment(value); });
  }
  // For totals that another component counts: raises the counter to `total`.
  void RaiseTo(Id id, int64_t total) {
    if (total > totals_[id])
      Add(id, static_cast<double>(total - std::exchange(totals_[id], total)));
  }
  // The same of a series with labels; it is there from the first total on, 0 included. One thread.
  void RaiseSeriesTo(Id id, uint64_t total, const Labels& labels) {
    uint64_t& known = labelled_totals_[{id, labels}];
    Add(id, static_cast<double>(total - std::min(known, total)), labels);
    known = std::max(known, total);
  }
  void Set(Id id, double value, const Labels& labels = {}) {
    Each(id, labels, [&](const Series& s) { s.gauge->Set(value); });
  }
  // counts: by bucket of the histogram, the last one for what is beyond its bounds.
  void ObserveMany(Id id, const std::vector<double>& counts, double sum) {
    Each(id, {}, [&](const Series& s) { s.histogram->ObserveMultiple(counts, sum); });
  }
  // Engine thread only; called once a step, so that what has not changed must cost little.
  void SetTenantWaiting(const std::string& tenant, int64_t sequences) {
    if (!page_.IsNamed(tenant)) return;
    const auto [shown, is_new] = tenant_waiting_.try_emplace(tenant, sequences);
    if (!is_new && std::exchange(shown->second, sequences) == sequences) return;
    Set(kTenantWaiting, static_cast<double>(sequences), {{"tenant", tenant}});
  }
  void Observe(Id id, double value, const Labels& labels = {}) {
    Each(id, labels, [&](const Series& s) { s.histogram->Observe(value); });
  }

 private:
  struct Series {
    prometheus::Counter* counter = nullptr;
    prometheus::Gauge* gauge = nullptr;
    prometheus::Histogram* histogram = nullptr;
    [[nodiscard]] bool exists() const { return counter || gauge || histogram; }
  };

  [[nodiscard]] Series Find(const Page::Family& family, const Definition& def,
                            const Labels& labels) const {
    Labels all = labels;
    all.emplace("model_name", model_);
    Series series;
    if (family.counter) series.counter = &family.counter->Add(all);
    if (family.gauge) series.gauge = &family.gauge->Add(all);
    if (family.histogram) {
      series.histogram = &family.histogram->Add(all, Ladder(def.first_bucket, def.last_bucket));
    }
    return series;
  }

  template <class F>
  void Each(Id id, const Labels& labels, const F& f) {
    if (labels.empty()) {
      for (const Series* series : {&unlabelled_[id], &unlabelled_aliases_[id]}) {
        if (series->exists()) f(*series);
      }
      return;
    }
    for (const Page::Family* family : {&page_.families[id], &page_.aliases[id]}) {
      if (family->exists()) f(Find(*family, Def(id), labels));
    }
  }

  const std::string model_;
  Page& page_;
  std::array<Series, kNumMetrics> unlabelled_, unlabelled_aliases_;
  std::array<int64_t, kNumMetrics> totals_{};  // engine thread only
  std::map<std::pair<Id, Labels>, uint64_t> labelled_totals_;
  std::map<std::string, int64_t> tenant_waiting_;  // as shown; engine thread only
};

Metrics::Metrics(std::string model, std::string_view alias)
    : Metrics(std::move(model), std::make_shared<Page>(alias == "vllm"), true) {}
Metrics::Metrics(std::string model, std::shared_ptr<Page> page, bool first)
    : orphans(page->orphans),
      page_(std::move(page)),
      impl_(std::make_unique<Impl>(std::move(model), *page_, first)) {}
Metrics::~Metrics() = default;

std::unique_ptr<Metrics> Metrics::ForModel(std::string model) const {
  return std::unique_ptr<Metrics>(new Metrics(std::move(model), page_, false));
}

void Metrics::SetEngine(const EngineGauges& g) {
  FlushStep();
  impl_->Set(kRunning, static_cast<double>(g.running));
  impl_->Set(kWaiting, static_cast<double>(g.waiting));
  impl_->Set(kWaitingTokens, static_cast<double>(g.waiting_tokens));
  const auto total =
      static_cast<double>(g.kv_free_blocks + g.kv_cached_blocks + g.kv_referenced_blocks);
  impl_->Set(kKvUsage, total > 0 ? static_cast<double>(g.kv_referenced_blocks) / total : 0);
  impl_->Set(kKvBlocks, static_cast<double>(g.kv_free_blocks), {{"state", "free"}});
  impl_->Set(kKvBlocks, static_cast<double>(g.kv_cached_blocks), {{"state", "cached"}});
  impl_->Set(kKvBlocks, static_cast<double>(g.kv_referenced_blocks), {{"state", "referenced"}});
  impl_->RaiseTo(kPreemptions, g.preemptions);
  impl_->RaiseTo(kPrefixQueries, g.prefix_queries);
  impl_->RaiseTo(kPrefixHits, g.prefix_hits);
}

void Metrics::CountStep(int64_t tokens, absl::Duration device_time) {
  impl_->Add(kSteps, 1);
  impl_->Observe(kStepTokens, static_cast<double>(tokens));
  impl_->Observe(kStepDuration, absl::ToDoubleSeconds(device_time));
}
void Metrics::CountSimulatedStep(absl::Duration busy, absl::Duration idle) {
  impl_->Add(kSimulatedBusy, absl::ToDoubleSeconds(busy));
  impl_->Add(kSimulatedIdle, absl::ToDoubleSeconds(idle));
}
void Metrics::CountPromptTokens(int64_t tokens) {
  impl_->Add(kPromptTokens, static_cast<double>(tokens));
}
void Metrics::CountEmbeddedInput() { impl_->Add(kEmbeddedInputs, 1); }
void Metrics::ObserveQueueTime(absl::Duration time) {
  impl_->Observe(kQueueTime, absl::ToDoubleSeconds(time));
}
void Metrics::ObserveTtft(absl::Duration time) {
  impl_->Observe(kTtft, absl::ToDoubleSeconds(time));
}
void Metrics::ObserveItl(absl::Duration gap, int64_t tokens) {
  static const Buckets kBounds = Ladder(Def(kItl).first_bucket, Def(kItl).last_bucket);
  const double seconds = absl::ToDoubleSeconds(gap);
  // As prometheus-cpp has it: a bound belongs to its own bucket.
  const auto bucket = std::ranges::lower_bound(kBounds, seconds) - kBounds.begin();
  step_.gaps_by_bucket.resize(kBounds.size() + 1);
  step_.gaps_by_bucket[static_cast<size_t>(bucket)] += static_cast<double>(tokens);
  step_.gaps += tokens;
  step_.gap_seconds += seconds * static_cast<double>(tokens);
}
void Metrics::FlushStep() {
  if (step_.output_tokens > 0)
    impl_->Add(kOutputTokens, static_cast<double>(std::exchange(step_.output_tokens, 0)));
  if (step_.gaps == 0) return;
  impl_->ObserveMany(kItl, step_.gaps_by_bucket, step_.gap_seconds);
  std::ranges::fill(step_.gaps_by_bucket, 0);
  step_.gaps = 0;
  step_.gap_seconds = 0;
}
void Metrics::ObserveTpot(absl::Duration time) {
  impl_->Observe(kTpot, absl::ToDoubleSeconds(time));
}

void Metrics::ObserveEnd(FinishReason reason, absl::Duration e2e, const Usage& usage) {
  impl_->Add(kRequests, 1, {{"finished_reason", FinishedReason(reason)}});
  impl_->Observe(kE2e, absl::ToDoubleSeconds(e2e));
  impl_->Observe(kRequestPromptTokens, static_cast<double>(usage.prompt_tokens));
  impl_->Observe(kRequestOutputTokens, static_cast<double>(usage.output_tokens));
}

void Metrics::NameTenants(const std::vector<std::string>& names) { page_->NameTenants(names); }
void Metrics::SetTenantWaiting(const std::string& tenant, int64_t sequences) {
  impl_->SetTenantWaiting(tenant, sequences);
}
void Metrics::CountTenantTokens(const std::string& tenant, const Usage& usage) {
  if (!page_->IsNamed(tenant)) return;
  impl_->Add(kTenantTokens, static_cast<double>(usage.prompt_tokens),
             {{"tenant", tenant}, {"kind", "prompt"}});
  impl_->Add(kTenantTokens, static_cast<double>(usage.output_tokens),
             {{"tenant", tenant}, {"kind", "output"}});
}
void Metrics::CountTenantRefused(const std::string& tenant, std::string_view limit) {
  if (!page_->IsNamed(tenant)) return;
  impl_->Add(kTenantRefused, 1, {{"tenant", tenant}, {"limit", std::string(limit)}});
}
void Metrics::SetFairness(double jain_index) { impl_->Set(kFairness, jain_index); }

void Metrics::CountHttpRequest(std::string_view route, int http_status, absl::Duration time) {
  impl_->Add(kHttpRequests, 1,
             {{"route", std::string(route)}, {"code", fmt::to_string(http_status)}});
  impl_->Observe(kHttpDuration, absl::ToDoubleSeconds(time), {{"route", std::string(route)}});
}
void Metrics::CountRpc(std::string_view method, std::string_view code, absl::Duration time) {
  impl_->Add(kRpcRequests, 1, {{"method", std::string(method)}, {"code", std::string(code)}});
  impl_->Observe(kRpcDuration, absl::ToDoubleSeconds(time), {{"method", std::string(method)}});
}
void Metrics::CountRefused(std::string_view reason) {
  impl_->Add(kRefused, 1, {{"reason", std::string(reason)}});
}
void Metrics::SetConnections(std::string_view protocol, int64_t open) {
  impl_->Set(kConnections, static_cast<double>(open), {{"protocol", std::string(protocol)}});
}
void Metrics::SetDevice(int device, const DeviceGauges& g) {
  const std::string number = fmt::to_string(device);
  using Label = std::pair<std::string, std::string>;
  const auto set = [&](Id id, const auto& value, auto... more) {
    prometheus::Labels labels = {{"device", number}, more...};
    if (value.has_value()) impl_->Set(id, static_cast<double>(*value), labels);
  };
  const auto raise = [&](Id id, const std::optional<uint64_t>& total, auto... more) {
    prometheus::Labels labels = {{"device", number}, more...};
    if (total.has_value()) impl_->RaiseSeriesTo(id, *total, labels);
  };
  set(kDeviceUtilisation, g.utilisation);
  set(kDeviceMemory, g.memory_used_bytes, Label("state", "used"));
  set(kDeviceMemory, g.memory_total_bytes, Label("state", "total"));
  set(kDevicePower, g.power_watts);
  set(kDevicePowerLimit, g.power_limit_watts);
  set(kDeviceTemperature, g.temperature_celsius);
  set(kDeviceClock, g.clock_hertz, Label("domain", "compute"));
  set(kDeviceClock, g.memory_clock_hertz, Label("domain", "memory"));
  raise(kDeviceMemoryErrors, g.corrected_errors, Label("kind", "corrected"));
  raise(kDeviceMemoryErrors, g.uncorrected_errors, Label("kind", "uncorrected"));
  raise(kDeviceXidErrors, g.xid_errors);
  set(kDeviceLost, std::optional(g.lost ? 1 : 0));
}
void Metrics::SetBuildInfo(std::string_view version, std::string_view backend,
                           std::string_view isa) {
  impl_->Set(kBuildInfo, 1,
             {{"version", std::string(version)},
              {"backend", std::string(backend)},
              {"isa", std::string(isa)}});
}
void Metrics::SetCacheConfig(int64_t block_tokens, int64_t num_blocks) {
  impl_->Set(kCacheInfo, 1,
             {{"block_size", fmt::to_string(block_tokens)},
              {"num_gpu_blocks", fmt::to_string(num_blocks)}});
}
void Metrics::SetSimulated(bool simulated) { impl_->Set(kSimulated, simulated ? 1 : 0); }
void Metrics::SetReady(bool ready) { impl_->Set(kReady, ready ? 1 : 0); }

std::string Metrics::Render() const {
  impl_->Set(kOpenStreams, static_cast<double>(orphans.OpenStreams()));
  impl_->Set(kOrphans, static_cast<double>(orphans.Orphans()));
  return prometheus::TextSerializer().Serialize(page_->registry.Collect());
}

std::string Metrics::DocumentationTable() {
  constexpr std::string_view kTypes[] = {"counter", "gauge", "histogram"};
  std::string out =
      "| metric | type | labels beside `model_name` | meaning | with `--metrics-alias=vllm` also "
      "|\n|---|---|---|---|---|\n";
  for (const Definition& def : kTable) {
    out += fmt::format("| `{}` | {} | {} | {} | {} |\n", def.name,
                       kTypes[static_cast<size_t>(def.type)], def.labels, def.help,
                       def.vllm ? fmt::format("`{}`", def.vllm) : "");
  }
  return out;
}

}  // namespace sluice
