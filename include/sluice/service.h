// The one door: HTTP, gRPC, the gateway, batch jobs and embedding programs are all clients of a
// Service.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "sluice/model_info.h"
#include "sluice/types.h"

namespace sluice {

// Where a front end's thread receives its events. One a front-end thread, not one a stream.
class EventQueue {
 public:
  virtual ~EventQueue() = default;
  // Takes a step's events for all streams of this queue, in order. Thread-safe; never blocks.
  // Called at most once a step by each engine (plus once a refused request).
  virtual void Publish(std::vector<StreamEvent> events) = 0;
};

struct ModelDescription {
  std::string id;
  std::vector<std::string> aliases;
  int64_t created = 0;  // Unix seconds, when it was loaded
  int64_t max_model_len = 0;
  std::string architecture;
  ModelTask task = ModelTask::kGenerate;

  [[nodiscard]] bool Answers(std::string_view name) const {
    return name == id || std::find(aliases.begin(), aliases.end(), name) != aliases.end();
  }
};

struct TokenizeRequest {
  std::string model;
  std::variant<Text, std::vector<ChatMessage>> prompt;
  bool parse_special = true;
  bool add_special_tokens = true;     // bos, where the model wants one
  bool add_generation_prompt = true;  // chat only
};

struct TokenizeResult {
  std::vector<TokenId> tokens;
  std::vector<Text> token_bytes;  // one a token
  int64_t max_model_len = 0;
};

// A model that an operator asks for while the server runs.
struct LoadModelRequest {
  std::string name;  // what it is served as
  std::string path;  // a GGUF file or a Hugging Face folder below --model-dir
  std::vector<std::pair<std::string, std::string>> settings;  // of one model, by flag name
};

// What /health, gRPC health and the readiness metric all say.
struct Health {
  bool live = true;    // false: the process must be restarted
  bool ready = false;  // takes new work: model loaded, not draining, runnable work advances
  std::string reason;  // why not ready: "loading", "draining", "device error", "no progress"
};

struct VersionInfo {
  std::string version, backend;
  std::string isa;                 // form of the CPU kernels, or the device
  std::string backend_reason;      // why this backend
  std::string model_hash;          // of the server's first model
  std::string system_fingerprint;  // "fp_" + digest of the above
};

// Identifies an accepted call of Generate or Embed. Never reused.
using CallId = uint64_t;

// Every method is thread-safe. Errors are absl::Status with the codes of design §8.
class Service {
 public:
  virtual ~Service() = default;

  // Starts a generation and returns at once; everything else, refusals included, comes as events to
  // `queue` under `tag`: Accepted, TokenEvents, and exactly one End. `queue` must live until that
  // End.
  virtual CallId Generate(GenerateRequest request, EventQueue* queue, StreamTag tag) = 0;

  // The same for vectors and scores, of a model that makes them: Accepted, one VectorEvent an input
  // (none for what did not get so far), and exactly one End. All inputs or none: the first refusal
  // or failure ends the call.
  virtual CallId Embed(EmbedRequest request, EventQueue* queue, StreamTag tag) = 0;

  // The client has gone: the row and its KV blocks are free after the current step. The End still
  // comes. Unknown or ended ids are ignored.
  virtual void Cancel(CallId call) = 0;

  // Runs on the caller's thread for short input (a front end sends longer input through
  // RunPrepared).
  [[nodiscard]] virtual absl::StatusOr<TokenizeResult> Tokenize(
      const TokenizeRequest& request) const = 0;
  [[nodiscard]] virtual absl::StatusOr<Text> Detokenize(
      const std::string& model, const std::vector<TokenId>& tokens) const = 0;

  // Runs `work` on the prepare pool, so that I/O threads never do work proportional to a prompt.
  // Errors: ResourceExhausted when the pool's queue is full; `work` is then not run.
  virtual absl::Status RunPrepared(std::function<void()> work) = 0;

  [[nodiscard]] virtual std::vector<ModelDescription> ListModels() const = 0;
  [[nodiscard]] virtual Health GetHealth() const = 0;  // under 10 ms whatever the engine does
  [[nodiscard]] virtual VersionInfo GetVersion() const = 0;

  // Administration. Both take seconds and block: call them through RunAdministration. Loading: the
  // model serves when it returns. Errors: PermissionDenied for a path outside of --model-dir,
  // AlreadyExists for a name that is taken, what is wrong with the file or a setting. Unloading:
  // the name is gone at once, running work finishes first, for as long as a drain may take; false:
  // some did not and was cancelled. Errors: NotFound.
  virtual absl::Status LoadModel(const LoadModelRequest& /*request*/) {
    return absl::UnimplementedError("models cannot be loaded here");
  }
  virtual absl::StatusOr<bool> UnloadModel(const std::string& /*name*/) {
    return absl::UnimplementedError("models cannot be unloaded here");
  }
  // Runs `work` on a thread for such tasks, one after the other. Errors: ResourceExhausted when too
  // many wait; `work` is then not run.
  virtual absl::Status RunAdministration(std::function<void()> work) {
    return RunPrepared(std::move(work));
  }

  // Stops admitting (Unavailable + retry_after), lets running work finish. Idempotent.
  virtual void Drain() = 0;
  // True once nothing is in flight.
  [[nodiscard]] virtual bool Drained() const = 0;
};

}  // namespace sluice
