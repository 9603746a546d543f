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

#include "metrics/metric_table.h"

namespace sluice {
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
    for (const MetricDefinition& def : kMetricTable) {
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
    for (const MetricDefinition& def : kMetricTable) {
      for (const Family& family : {families[def.id], aliases[def.id]}) {
        if (family.counter) DropSeries(*family.counter, model);
        if (family.gauge) DropSeries(*family.gauge, model);
        if (family.histogram) DropSeries(*family.histogram, model, def.Buckets());
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

  void Register(const MetricDefinition& def, const char* name, Family* family) {
    switch (def.type) {
      case MetricType::kCounter:
        family->counter = &prometheus::BuildCounter().Name(name).Help(def.help).Register(registry);
        break;
      case MetricType::kGauge:
        family->gauge = &prometheus::BuildGauge().Name(name).Help(def.help).Register(registry);
        break;
      case MetricType::kHistogram:
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
    for (const MetricDefinition& def : kMetricTable) {
      if (*def.labels != '\0' || (IsOfProcess(def.id) && !first)) continue;
      // Unlabelled series exist from the start: a scraper sees 0, not nothing. Looked up once:
      // these are updated for every token.
      unlabelled_[def.id] = Find(page.families[def.id], def, {});
      unlabelled_aliases_[def.id] = Find(page.aliases[def.id], def, {});
    }
  }

  ~Impl() { page_.DropModel(model_); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void Add(MetricId id, double value, const Labels& labels = {}) {
    Each(id, labels, [&](const Series& s) { s.counter->Increment(value); });
  }
  // For totals that another component counts: raises the counter to `total`.
  void RaiseTo(MetricId id, int64_t total) {
    if (total > totals_[id])
      Add(id, static_cast<double>(total - std::exchange(totals_[id], total)));
  }
  // The same of a series with labels; it is there from the first total on, 0 included. One thread.
  void RaiseSeriesTo(MetricId id, uint64_t total, const Labels& labels) {
    uint64_t& known = labelled_totals_[{id, labels}];
    Add(id, static_cast<double>(total - std::min(known, total)), labels);
    known = std::max(known, total);
  }
  void Set(MetricId id, double value, const Labels& labels = {}) {
    Each(id, labels, [&](const Series& s) { s.gauge->Set(value); });
  }
  // counts: by bucket of the histogram, the last one for what is beyond its bounds.
  void ObserveMany(MetricId id, const std::vector<double>& counts, double sum) {
    Each(id, {}, [&](const Series& s) { s.histogram->ObserveMultiple(counts, sum); });
  }
  // Engine thread only; called once a step, so that what has not changed must cost little.
  void SetTenantWaiting(const std::string& tenant, int64_t sequences) {
    if (!page_.IsNamed(tenant)) return;
    const auto [shown, is_new] = tenant_waiting_.try_emplace(tenant, sequences);
    if (!is_new && std::exchange(shown->second, sequences) == sequences) return;
    Set(kTenantWaiting, static_cast<double>(sequences), {{"tenant", tenant}});
  }
  void Observe(MetricId id, double value, const Labels& labels = {}) {
    Each(id, labels, [&](const Series& s) { s.histogram->Observe(value); });
  }

 private:
  struct Series {
    prometheus::Counter* counter = nullptr;
    prometheus::Gauge* gauge = nullptr;
    prometheus::Histogram* histogram = nullptr;
    [[nodiscard]] bool exists() const { return counter || gauge || histogram; }
  };

  [[nodiscard]] Series Find(const Page::Family& family, const MetricDefinition& def,
                            const Labels& labels) const {
    Labels all = labels;
    all.emplace("model_name", model_);
    Series series;
    if (family.counter) series.counter = &family.counter->Add(all);
    if (family.gauge) series.gauge = &family.gauge->Add(all);
    if (family.histogram) {
      series.histogram = &family.histogram->Add(all, def.Buckets());
    }
    return series;
  }

  template <class F>
  void Each(MetricId id, const Labels& labels, const F& f) {
    if (labels.empty()) {
      for (const Series* series : {&unlabelled_[id], &unlabelled_aliases_[id]}) {
        if (series->exists()) f(*series);
      }
      return;
    }
    for (const Page::Family* family : {&page_.families[id], &page_.aliases[id]}) {
      if (family->exists()) f(Find(*family, kMetricTable[id], labels));
    }
  }

  const std::string model_;
  Page& page_;
  std::array<Series, kNumMetrics> unlabelled_, unlabelled_aliases_;
  std::array<int64_t, kNumMetrics> totals_{};  // engine thread only
  std::map<std::pair<MetricId, Labels>, uint64_t> labelled_totals_;
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
  static const std::vector<double> kBounds = kMetricTable[kItl].Buckets();
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
  impl_->Add(kRequests, 1, {{"finished_reason", std::string(FinishReasonName(reason))}});
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
  const auto set = [&](MetricId id, const auto& value, const auto&... more) {
    prometheus::Labels labels = {{"device", number}, more...};
    if (value.has_value()) impl_->Set(id, static_cast<double>(*value), labels);
  };
  const auto raise = [&](MetricId id, const std::optional<uint64_t>& total, const auto&... more) {
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
  for (const MetricDefinition& def : kMetricTable) {
    out += fmt::format("| `{}` | {} | {} | {} | {} |\n", def.name,
                       kTypes[static_cast<size_t>(def.type)], def.labels, def.help,
                       def.vllm ? fmt::format("`{}`", def.vllm) : "");
  }
  return out;
}

}  // namespace sluice
