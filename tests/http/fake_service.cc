#include "tests/http/fake_service.h"

#include <chrono>
#include <mutex>
#include <utility>

namespace sluice {

FakeService::~FakeService() {
  for (std::thread& thread : prepared_) thread.join();
}

bool FakeService::WaitFor(const std::function<bool()>& condition) {
  std::unique_lock<Mutex> lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10), condition);
}

bool FakeService::WaitForCalls(size_t count) {
  return WaitFor([&] { return calls_.size() >= count; });
}
bool FakeService::WaitForCancels(size_t count) {
  return WaitFor([&] { return num_cancels_ >= count; });
}

GenerateRequest FakeService::Request(CallId call) {
  const std::lock_guard<Mutex> lock(mutex_);
  return calls_.at(call).request;
}

size_t FakeService::num_cancels() {
  const std::lock_guard<Mutex> lock(mutex_);
  return num_cancels_;
}

void FakeService::Emit(CallId call, std::vector<StreamEvent> events) {
  EventQueue* queue = nullptr;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    Call& entry = calls_.at(call);
    if (entry.ended) return;
    queue = entry.queue;
    for (StreamEvent& event : events) {
      event.tag = entry.tag;
      entry.ended |= std::holds_alternative<End>(event.event);
    }
  }
  queue->Publish(std::move(events));
}

void FakeService::Accept(CallId call, int64_t prompt_tokens) {
  StreamEvent event;
  event.event = Accepted{"fake/model", 42, prompt_tokens, "fp_fake"};
  Emit(call, {event});
}

void FakeService::Say(CallId call, const std::string& text, int32_t choice) {
  TokenEvent token;
  token.choice = choice;
  token.content = Text(text);
  token.tokens = {static_cast<TokenId>(text.size())};
  StreamEvent event;
  event.event = token;
  Emit(call, {event});
}

void FakeService::Finish(CallId call, FinishReason reason, int32_t choice) {
  TokenEvent token;
  token.choice = choice;
  token.finish = reason;
  StreamEvent event;
  event.event = token;
  Emit(call, {event});
}

void FakeService::EndOk(CallId call, int64_t output_tokens) {
  End end;
  end.usage = {3, output_tokens, 2};
  StreamEvent event;
  event.event = end;
  Emit(call, {event});
}

void FakeService::EndWith(CallId call, absl::Status status, absl::Duration retry_after) {
  End end;
  end.status = std::move(status);
  end.reason = FinishReason::kError;
  end.retry_after = retry_after;
  StreamEvent event;
  event.event = end;
  Emit(call, {event});
}

void FakeService::Complete(CallId call, const std::vector<std::string>& words) {
  Accept(call);
  for (const std::string& word : words) Say(call, word);
  Finish(call);
  EndOk(call, static_cast<int64_t>(words.size()));
}

EmbedRequest FakeService::Embedded(CallId call) {
  const std::lock_guard<Mutex> lock(mutex_);
  return calls_.at(call).embed;
}

CallId FakeService::Generate(GenerateRequest request, EventQueue* queue, StreamTag tag) {
  return Start({.request = std::move(request), .queue = queue, .tag = tag});
}

CallId FakeService::Embed(EmbedRequest request, EventQueue* queue, StreamTag tag) {
  return Start({.embed = std::move(request), .queue = queue, .tag = tag});
}

CallId FakeService::Start(Call started) {
  CallId call = 0;
  {
    const std::lock_guard<Mutex> lock(mutex_);
    call = calls_.size() + 1;
    calls_[call] = std::move(started);
    changed_.notify_all();
  }
  if (on_generate) on_generate(call);
  return call;
}

void FakeService::Cancel(CallId call) {
  {
    const std::lock_guard<Mutex> lock(mutex_);
    ++num_cancels_;
    changed_.notify_all();
  }
  End end;
  end.status = absl::CancelledError("cancelled by the client");
  end.reason = FinishReason::kCancelled;
  StreamEvent event;
  event.event = end;
  Emit(call, {event});
}

absl::StatusOr<TokenizeResult> FakeService::Tokenize(const TokenizeRequest& request) const {
  const auto* text = std::get_if<Text>(&request.prompt);
  if (text == nullptr) return absl::InvalidArgumentError("the fake has no template");
  TokenizeResult result;
  for (const char c : text->Reveal()) {
    result.tokens.push_back(static_cast<unsigned char>(c));
    result.token_bytes.emplace_back(std::string(1, c));
  }
  result.max_model_len = 100;
  return result;
}

absl::StatusOr<Text> FakeService::Detokenize(const std::string& /*model*/,
                                             const std::vector<TokenId>& tokens) const {
  std::string text;
  for (const TokenId token : tokens) text += static_cast<char>(token);
  return Text(text);
}

absl::Status FakeService::RunPrepared(std::function<void()> work) {
  if (refuse_prepared) return absl::ResourceExhaustedError("the prepare pool's queue is full");
  const std::lock_guard<Mutex> lock(mutex_);
  prepared_.emplace_back(std::move(work));
  return absl::OkStatus();
}

std::vector<ModelDescription> FakeService::ListModels() const {
  return {ModelDescription{"fake/model", {"default"}, 1'700'000'000, 100, "llama"}};
}

VersionInfo FakeService::GetVersion() const { return {"1.2.3", "fake", "none", "hash", "fp_fake"}; }

void FakeService::Drain() {
  const std::lock_guard<Mutex> lock(mutex_);
  draining_ = true;
  health = {true, false, "draining"};
}

}  // namespace sluice
