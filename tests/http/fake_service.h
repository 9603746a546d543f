// A Service whose every event a test decides: the transport tests need no engine. Thread-safe.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "sluice/service.h"

namespace sluice {

class FakeService final : public Service {
 public:
  ~FakeService() override;

  // --- The test's side
  // Called on the I/O thread at the end of each Generate or Embed, without the lock.
  std::function<void(CallId)> on_generate;
  bool refuse_prepared = false;
  Health health{true, true, ""};

  // Waits until so many calls have been made; false after 10 s.
  bool WaitForCalls(size_t count);
  bool WaitForCancels(size_t count);
  GenerateRequest Request(CallId call);
  EmbedRequest Embedded(CallId call);
  size_t num_cancels();

  void Emit(CallId call, std::vector<StreamEvent> events);  // tags are filled in
  void Accept(CallId call, int64_t prompt_tokens = 3);
  void Say(CallId call, const std::string& text, int32_t choice = 0);
  void Finish(CallId call, FinishReason reason = FinishReason::kStop, int32_t choice = 0);
  void EndOk(CallId call, int64_t output_tokens = 1);
  void EndWith(CallId call, absl::Status status, absl::Duration retry_after = absl::ZeroDuration());
  // Accept, one event a word, finish, end.
  void Complete(CallId call, const std::vector<std::string>& words);

  // --- Service
  CallId Generate(GenerateRequest request, EventQueue* queue, StreamTag tag) override;
  CallId Embed(EmbedRequest request, EventQueue* queue, StreamTag tag) override;
  void Cancel(CallId call) override;  // answers with End(kCancelled)
  absl::StatusOr<TokenizeResult> Tokenize(const TokenizeRequest& request) const override;
  absl::StatusOr<Text> Detokenize(const std::string& model,
                                  const std::vector<TokenId>& tokens) const override;
  absl::Status RunPrepared(std::function<void()> work) override;
  std::vector<ModelDescription> ListModels() const override;
  Health GetHealth() const override { return health; }
  VersionInfo GetVersion() const override;
  void Drain() override;
  bool Drained() const override { return draining_; }

 private:
  struct Call {
    GenerateRequest request;
    EmbedRequest embed;
    EventQueue* queue = nullptr;
    StreamTag tag = 0;
    bool ended = false;
  };
  CallId Start(Call call);
  bool WaitFor(const std::function<bool()>& condition);

  mutable Mutex mutex_;
  CondVar changed_;
  std::map<CallId, Call> calls_;  // by number, from 1
  size_t num_cancels_ = 0;
  bool draining_ = false;
  std::vector<std::thread> prepared_;
};

}  // namespace sluice
