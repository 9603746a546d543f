// The Service of this process: checks, templates, tokenizes and hands over to the engines.
// Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/stage_watch.h"
#include "metrics/metrics.h"
#include "service/model_registry.h"
#include "service/prepare_pool.h"
#include "service/tenant_gate.h"
#include "sluice/service.h"

namespace sluice {

// What an operator asked for, loaded; an error is one sentence.
using ModelFactory =
    std::function<absl::StatusOr<std::unique_ptr<LoadedModel>>(const LoadModelRequest& request)>;

struct LocalServiceOptions {
  VersionInfo version;
  int prepare_threads = 1;
  size_t max_preparing = 1024;                      // requests in the prepare pool's queue
  size_t max_body_bytes = 16 << 20;                 // of a request
  absl::Duration stall_timeout = absl::Seconds(2);  // of a thread that prepares requests
  std::string plant_fault;                          // as the setting
  absl::Duration drain_timeout =
      absl::Seconds(30);  // of unloading; a refusal while draining names it as Retry-After
  TenantRules tenants = TenantRules(false);
  ModelFactory load_model;  // empty: models cannot be loaded while the service runs
};

class LocalService final : public Service {
 public:
  // `models` have different names.
  LocalService(LocalServiceOptions options, std::vector<std::unique_ptr<LoadedModel>> models,
               std::unique_ptr<Metrics> metrics, std::unique_ptr<const Clock> clock);
  ~LocalService() override;

  CallId Generate(GenerateRequest request, EventQueue* queue, StreamTag tag) override;
  CallId Embed(EmbedRequest request, EventQueue* queue, StreamTag tag) override;
  void Cancel(CallId call) override;
  absl::StatusOr<TokenizeResult> Tokenize(const TokenizeRequest& request) const override;
  absl::StatusOr<Text> Detokenize(const std::string& model,
                                  const std::vector<TokenId>& tokens) const override;
  absl::Status RunPrepared(std::function<void()> work) override {
    return pool_.Submit(std::move(work), options_.max_body_bytes);
  }
  absl::Status LoadModel(const LoadModelRequest& request) override;
  absl::StatusOr<bool> UnloadModel(const std::string& name) override;
  absl::Status RunAdministration(std::function<void()> work) override {
    return administration_.Submit(std::move(work), 0);
  }
  std::vector<ModelDescription> ListModels() const override;
  Health GetHealth() const override;
  VersionInfo GetVersion() const override { return options_.version; }
  void Drain() override;
  bool Drained() const override;

  void SetTenantRules(TenantRules rules) { gate_.SetRules(std::move(rules)); }
  [[nodiscard]] Metrics& metrics() const { return *metrics_; }
  // Where front ends enter their threads; health asks it.
  [[nodiscard]] StageWatch& stages() { return stages_; }
  [[nodiscard]] const Clock& clock() const { return *clock_; }

 private:
  struct Pending {  // a call between Generate or Embed and its engine
    std::variant<GenerateRequest, EmbedRequest> request;
    CallId call;
    EventQueue* queue;
    StreamTag tag;
    absl::Time accepted_at;
    std::shared_ptr<TenantGate::Visit> visit;  // null: it was refused

    [[nodiscard]] const std::string& model() const {
      return std::visit([](const auto& r) -> const std::string& { return r.model; }, request);
    }
    [[nodiscard]] const std::string& tenant() const {
      return std::visit([](const auto& r) -> const std::string& { return r.tenant; }, request);
    }
    [[nodiscard]] absl::Time deadline() const {
      return std::visit([](const auto& r) { return r.deadline; }, request);
    }
  };

  CallId Start(std::variant<GenerateRequest, EmbedRequest> request, EventQueue* queue,
               StreamTag tag);
  absl::Status Enter(Pending& pending);
  void Prepare(const Pending& pending);
  absl::StatusOr<Request> BuildRequest(const Pending& pending, const LoadedModel& model) const;
  absl::StatusOr<Request> BuildGenerate(const GenerateRequest& in, const LoadedModel& model) const;
  absl::StatusOr<std::vector<TokenId>> TokenizePrompt(
      const std::variant<Text, std::vector<ChatMessage>, std::vector<TokenId>>& prompt,
      bool parse_special, bool add_special_tokens, bool add_generation_prompt,
      const LoadedModel& model) const;
  void Refuse(const Pending& pending, absl::Status status);
  uint64_t DrawSeed() const;

  const LocalServiceOptions options_;
  const std::unique_ptr<Metrics> metrics_;
  const std::unique_ptr<const Clock> clock_;
  const uint64_t seed_base_;
  mutable std::atomic<uint64_t> seeds_drawn_{0};
  std::atomic<CallId> next_call_{1};
  std::atomic<bool> draining_{false};
  mutable Mutex mutex_;
  // Calls being prepared → whether they were cancelled meanwhile. A call is here or in its engine,
  // never in both.
  absl::flat_hash_map<CallId, bool> preparing_ ABSL_GUARDED_BY(mutex_);
  std::atomic<int64_t> num_prepared_{0};
  StageWatch stages_;
  TenantGate gate_;
  ModelRegistry models_;
  PreparePool pool_;            // these two last: their tasks use everything above
  PreparePool administration_;  // one thread: a load at a time
};

}  // namespace sluice
