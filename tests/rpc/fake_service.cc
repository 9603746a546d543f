#include "tests/rpc/fake_service.h"

#include <gtest/gtest.h>

#include <chrono>
#include <utility>

#include "base/errors.h"

namespace sluice::rpc {

void FakeService::Call::Publish(std::vector<decltype(StreamEvent::event)> events) const {
  std::vector<StreamEvent> batch;
  for (auto& event : events) batch.push_back({tag, std::move(event)});
  queue->Publish(std::move(batch));
}

void FakeService::Call::Answer(const std::string& text) const {
  std::vector<decltype(StreamEvent::event)> events;
  events.emplace_back(Accepted{.model = "fake-1", .seed = 42, .prompt_tokens = 3});
  for (int choice = 0; choice < request.sampling.n; ++choice) {
    TokenEvent tokens;
    tokens.choice = choice;
    tokens.content = Text(text);
    tokens.tokens = {7, 8};
    tokens.finish = FinishReason::kStop;
    events.emplace_back(std::move(tokens));
  }
  End end;
  end.usage = {.prompt_tokens = 3, .output_tokens = 2 * request.sampling.n, .cached_tokens = 1};
  events.emplace_back(std::move(end));
  Publish(std::move(events));
}

void FakeService::Call::EndWith(absl::Status status, absl::Duration retry_after) const {
  End end;
  end.status = std::move(status);
  end.reason = FinishReason::kError;
  end.retry_after = retry_after;
  Publish({std::move(end)});
}

FakeService::~FakeService() {
  std::vector<std::thread> pool;
  {
    const MutexLock lock(mutex_);
    pool.swap(pool_);
  }
  for (std::thread& thread : pool) thread.join();
}

FakeService::Call FakeService::WaitForCall(size_t n) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  const MutexLock lock(mutex_);
  while (calls_.size() <= n) {
    if (changed_.wait_until(mutex_, until) == std::cv_status::timeout) {
      ADD_FAILURE() << "no call " << n << " of Generate within 10 s";
      return {};
    }
  }
  return calls_[n];
}

bool FakeService::WaitForCancel(CallId id, absl::Duration timeout) {
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  const MutexLock lock(mutex_);
  while (cancels_.count(id) == 0) {
    if (changed_.wait_until(mutex_, until) == std::cv_status::timeout)
      return cancels_.count(id) != 0;
  }
  return true;
}

std::vector<FakeService::Call> FakeService::calls() {
  const MutexLock lock(mutex_);
  return calls_;
}

size_t FakeService::num_cancels(CallId id) {
  const MutexLock lock(mutex_);
  const auto found = cancels_.find(id);
  return found == cancels_.end() ? 0 : found->second;
}

CallId FakeService::Generate(GenerateRequest request, EventQueue* queue, StreamTag tag) {
  return Start({.request = std::move(request), .queue = queue, .tag = tag});
}

CallId FakeService::Embed(EmbedRequest request, EventQueue* queue, StreamTag tag) {
  return Start({.embed = std::move(request), .queue = queue, .tag = tag});
}

CallId FakeService::Start(Call call) {
  {
    const MutexLock lock(mutex_);
    call.id = 1000 + calls_.size();
    calls_.push_back(call);
  }
  changed_.notify_all();
  if (script) script(call);
  return call.id;
}

void FakeService::Cancel(CallId id) {
  Call call;
  {
    const MutexLock lock(mutex_);
    ++cancels_[id];
    for (const Call& c : calls_) {
      if (c.id == id) call = c;
    }
    if (!ended_.insert(id).second) call.queue = nullptr;
  }
  changed_.notify_all();
  if (call.queue != nullptr && end_on_cancel.load())
    call.EndWith(absl::CancelledError("cancelled"));
}

absl::StatusOr<TokenizeResult> FakeService::Tokenize(const TokenizeRequest& request) const {
  if (request.model == "none") return absl::NotFoundError("there is no model \"none\"");
  TokenizeResult result;
  if (const Text* text = std::get_if<Text>(&request.prompt)) {
    for (const char c : text->Reveal()) {
      result.tokens.push_back(static_cast<unsigned char>(c));
      result.token_bytes.emplace_back(std::string(1, c));
    }
  } else {
    result.tokens = {request.add_generation_prompt ? 1 : 0, request.parse_special ? 1 : 0,
                     request.add_special_tokens ? 1 : 0};
  }
  result.max_model_len = 2048;
  return result;
}

absl::StatusOr<Text> FakeService::Detokenize(const std::string& /*model*/,
                                             const std::vector<TokenId>& tokens) const {
  std::string text;
  for (const TokenId token : tokens) {
    if (token < 0 || token > 127) return FieldError("tokens[0]", "tokens[0] is out of range");
    text += static_cast<char>(token);
  }
  return Text(text);
}

absl::Status FakeService::RunPrepared(std::function<void()> work) {
  if (prepare_full.load()) return absl::ResourceExhaustedError("the prepare queue is full");
  const MutexLock lock(mutex_);
  num_prepared.fetch_add(1);
  if (hold_prepared.load()) {
    held_.push_back(std::move(work));
    return absl::OkStatus();
  }
  pool_.emplace_back(std::move(work));
  return absl::OkStatus();
}

void FakeService::RunHeld() {
  std::vector<std::function<void()>> held;
  {
    const MutexLock lock(mutex_);
    held.swap(held_);
  }
  for (const auto& work : held) work();
}

std::vector<ModelDescription> FakeService::ListModels() const {
  return {{.id = "fake-1",
           .aliases = {"default"},
           .created = 1700000000,
           .max_model_len = 2048,
           .architecture = "llama",
           .task = task}};
}

Health FakeService::GetHealth() const {
  return {.live = live.load(), .ready = ready.load(), .reason = ready.load() ? "" : "loading"};
}

VersionInfo FakeService::GetVersion() const { return {.system_fingerprint = "fp_fake"}; }

}  // namespace sluice::rpc
