// A Service under a test's control: it records what comes in, and the test (or a script) says what
// goes out.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "sluice/service.h"

namespace sluice::rpc {

// Thread-safe.
class FakeService final : public Service {
 public:
  struct Call {
    CallId id = 0;
    GenerateRequest request;
    EmbedRequest embed;
    EventQueue* queue = nullptr;
    StreamTag tag = 0;

    void Publish(std::vector<decltype(StreamEvent::event)> events) const;
    // Accepted, one token event a choice with `text` and a finish, and End, in one batch.
    void Answer(const std::string& text) const;
    void EndWith(absl::Status status, absl::Duration retry_after = absl::ZeroDuration()) const;
  };

  ~FakeService() override;

  // Runs inside Generate and Embed, before it returns.
  std::function<void(const Call&)> script;
  // Whether Cancel is answered with an End, as the engine does.
  std::atomic<bool> end_on_cancel{true};
  std::atomic<bool> prepare_full{false};
  std::atomic<bool> hold_prepared{false};  // work waits for RunHeld
  std::atomic<bool> live{true}, ready{true};
  std::atomic<int> num_prepared{0};
  ModelTask task = ModelTask::kGenerate;  // before the server starts

  void RunHeld();

  // The n-th call of Generate (from 0), once it is there. Fails the test after 10 s.
  Call WaitForCall(size_t n = 0);
  [[nodiscard]] bool WaitForCancel(CallId id, absl::Duration timeout = absl::Seconds(10));
  [[nodiscard]] std::vector<Call> calls();
  [[nodiscard]] size_t num_cancels(CallId id);

  CallId Generate(GenerateRequest request, EventQueue* queue, StreamTag tag) override;
  CallId Embed(EmbedRequest request, EventQueue* queue, StreamTag tag) override;
  void Cancel(CallId call) override;
  absl::StatusOr<TokenizeResult> Tokenize(const TokenizeRequest& request) const override;
  absl::StatusOr<Text> Detokenize(const std::string& model,
                                  const std::vector<TokenId>& tokens) const override;
  absl::Status RunPrepared(std::function<void()> work) override;
  std::vector<ModelDescription> ListModels() const override;
  Health GetHealth() const override;
  VersionInfo GetVersion() const override;
  void Drain() override {}
  bool Drained() const override { return true; }

 private:
  CallId Start(Call call);

  Mutex mutex_;
  CondVar changed_;
  std::vector<Call> calls_ ABSL_GUARDED_BY(mutex_);
  std::map<CallId, size_t> cancels_ ABSL_GUARDED_BY(mutex_);
  std::set<CallId> ended_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::function<void()>> held_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> pool_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::rpc
