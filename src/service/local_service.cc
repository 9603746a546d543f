#include "service/local_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <random>
#include <type_traits>
#include <utility>

#include "absl/time/clock.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/logging.h"
#include "base/retry_after.h"
#include "base/status_macros.h"
#include "service/embed_request.h"
#include "service/validate.h"

namespace sluice {
namespace {

boost::json::object TemplateVariables(const std::vector<ChatMessage>& messages,
                                      bool add_generation_prompt) {
  boost::json::array list;
  for (const ChatMessage& message : messages) {
    list.push_back(
        boost::json::object{{"role", message.role}, {"content", message.content.Reveal()}});
  }
  return {{"messages", std::move(list)}, {"add_generation_prompt", add_generation_prompt}};
}

std::string RefusalReason(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return ErrorCode(status).empty() ? "queue_full" : ErrorCode(status);
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    case absl::StatusCode::kCancelled:
      return "cancelled";
    case absl::StatusCode::kDeadlineExceeded:
      return "deadline";
    case absl::StatusCode::kInternal:
      return "internal";
    default:
      return "invalid";
  }
}

size_t NumBytes(const std::variant<GenerateRequest, EmbedRequest>& request) {
  size_t sum = 0;
  const auto add = [&sum](const auto& input) {
    using T = std::decay_t<decltype(input)>;
    if constexpr (std::is_same_v<T, TextPair>) {
      sum += input.first.size() + input.second.size();
    } else if constexpr (std::is_same_v<T, std::vector<ChatMessage>>) {
      for (const ChatMessage& message : input) sum += message.content.size();
    } else {
      sum += input.size();
    }
  };
  if (const auto* embed = std::get_if<EmbedRequest>(&request)) {
    for (const EmbedInput& input : embed->inputs) std::visit(add, input);
  } else {
    std::visit(add, std::get<GenerateRequest>(request).prompt);
  }
  return sum;
}

constexpr size_t kMaxAdministration = 16;  // tasks that may wait
constexpr int64_t kMaxStreamInterval = 1024;
constexpr absl::Duration kUnloadPoll = absl::Milliseconds(10);

uint64_t RandomBits() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

LocalService::LocalService(LocalServiceOptions options,
                           std::vector<std::unique_ptr<LoadedModel>> models,
                           std::unique_ptr<Metrics> metrics, std::unique_ptr<const Clock> clock)
    : options_(std::move(options)),
      metrics_(std::move(metrics)),
      clock_(std::move(clock)),
      seed_base_(RandomBits()),
      gate_(options_.tenants, metrics_.get(), clock_.get()),
      pool_(options_.prepare_threads, options_.max_preparing, &stages_, options_.stall_timeout),
      administration_(1, kMaxAdministration) {
  for (auto& model : models) {
    const absl::Status added = models_.Add(std::move(model));
    SLUICE_CHECK(added.ok(), "{}", added.ToString());
  }
}

LocalService::~LocalService() = default;

// 53 bits, so that every JSON client can send the seed back unharmed. SplitMix64 over a random
// start.
uint64_t LocalService::DrawSeed() const {
  uint64_t z = seed_base_ + (seeds_drawn_.fetch_add(1) + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return (z ^ (z >> 31)) >> 11;
}

CallId LocalService::Generate(GenerateRequest request, EventQueue* queue, StreamTag tag) {
  return Start(std::move(request), queue, tag);
}

CallId LocalService::Embed(EmbedRequest request, EventQueue* queue, StreamTag tag) {
  return Start(std::move(request), queue, tag);
}

CallId LocalService::Start(std::variant<GenerateRequest, EmbedRequest> request, EventQueue* queue,
                           StreamTag tag) {
  const CallId call = next_call_.fetch_add(1);
  auto pending = std::make_shared<Pending>(  // owners: this frame until queued, then the pool's
                                             // task (std::function copies)
      Pending{std::move(request), call, queue, tag, clock_->Now(), nullptr});
  if (absl::Status entered = Enter(*pending); !entered.ok()) {
    Refuse(*pending, std::move(entered));
    return call;
  }
  {
    const MutexLock lock(mutex_);
    preparing_.emplace(call, false);
  }
  const absl::Status queued =
      pool_.Submit([this, pending] { Prepare(*pending); }, NumBytes(pending->request),
                   pending->tenant(), pending->visit->rule().max_queue_share);
  if (!queued.ok()) {
    {
      const MutexLock lock(mutex_);
      preparing_.erase(call);
    }
    Refuse(*pending, queued);
  }
  return call;
}

// What can be refused before anything is spent on the request: the tenant's limits, and a queue
// that has no room even for one token more.
absl::Status LocalService::Enter(Pending& pending) {
  if (draining_.load()) return absl::UnavailableError("the server is draining");
  ASSIGN_OR_RETURN(pending.visit, gate_.Enter(pending.tenant()));
  const TenantRule& rule = pending.visit->rule();
  std::visit([&rule](auto& r) { r.priority = std::max(r.priority, rule.best_priority); },
             pending.request);
  const auto model = models_.Find(pending.model());
  if (!model.ok() || (*model)->engine == nullptr) return absl::OkStatus();  // Prepare tells
  return (*model)->engine->Check({.tenant = pending.tenant(),
                                  .weight = rule.weight,
                                  .max_queue_share = rule.max_queue_share,
                                  .deadline = pending.deadline()});
}

void LocalService::Prepare(const Pending& pending) {
  if (num_prepared_.fetch_add(1) + 1 == PlantedStall(options_.plant_fault, "prepare")) {
    Log(LogLevel::kWarn, "planted_stall");
    absl::SleepFor(kPlantedStall);
  }
  absl::Status status;
  bool submitted = false;
  {
    const MutexLock lock(mutex_);
    if (preparing_[pending.call]) status = absl::CancelledError("the client cancelled the request");
  }
  if (status.ok() && clock_->Now() >= pending.deadline()) {
    status =
        WithErrorCode(absl::DeadlineExceededError("the request's deadline passed in the queue"),
                      "deadline_in_queue");
  }
  ModelRef model;
  absl::StatusOr<Request> request = absl::UnknownError("not built");
  if (status.ok()) {
    const auto found = models_.Find(pending.model());
    status = found.status();
    if (found.ok()) {
      model = *found;
      request = BuildRequest(pending, *model);
      status = request.status();
    }
  }
  {
    // Under the lock, so that a Cancel finds the call either here or in the engine.
    const MutexLock lock(mutex_);
    if (status.ok() && preparing_[pending.call])
      status = absl::CancelledError("the client cancelled the request");
    if (status.ok()) {
      status = model->engine->Submit(*std::move(request));
      submitted = status.ok();
    }
    preparing_.erase(pending.call);
  }
  if (!submitted) Refuse(pending, std::move(status));
}

absl::StatusOr<std::vector<TokenId>> LocalService::TokenizePrompt(
    const std::variant<Text, std::vector<ChatMessage>, std::vector<TokenId>>& prompt,
    bool parse_special, bool add_special_tokens, bool add_generation_prompt,
    const LoadedModel& model) const {
  if (const auto* tokens = std::get_if<std::vector<TokenId>>(&prompt)) {
    for (const TokenId token : *tokens) {
      if (token < 0 || token >= model.info.vocab_size) {
        return FieldError(
            "prompt", fmt::format("prompt has token {}; the vocabulary has tokens 0 to {}", token,
                                  model.info.vocab_size - 1));
      }
    }
    return *tokens;
  }
  const TokenizerData& data = model.info.tokenizer;
  std::vector<PromptSegment> segments;
  std::vector<TokenId> tokens;
  if (const auto* messages = std::get_if<std::vector<ChatMessage>>(&prompt)) {
    if (!model.chat_template) {
      return FieldError("messages", fmt::format("model {} has no chat template", model.info.name),
                        "no_chat_template");
    }
    const auto special = [&](TokenId token) {
      return token < 0 ? std::string() : std::string(model.tokenizer->TokenBytes(token));
    };
    auto rendered = model.chat_template->Render(TemplateVariables(*messages, add_generation_prompt),
                                                special(data.bos), special(data.eos));
    if (!rendered.ok()) return WithParam(rendered.status(), "messages");
    segments = *std::move(rendered);
  } else {
    if (add_special_tokens && data.add_bos && data.bos >= 0) tokens.push_back(data.bos);
    segments.push_back({std::get<Text>(prompt), parse_special});
  }
  const std::vector<TokenId> encoded = model.tokenizer->Encode(segments);
  tokens.insert(tokens.end(), encoded.begin(), encoded.end());
  return tokens;
}

absl::StatusOr<Request> LocalService::BuildRequest(const Pending& pending,
                                                   const LoadedModel& model) const {
  Request request;
  if (const auto* embed = std::get_if<EmbedRequest>(&pending.request)) {
    ASSIGN_OR_RETURN(request.pooled, BuildPooledWork(*embed, model.info, *model.tokenizer));
  } else {
    ASSIGN_OR_RETURN(request, BuildGenerate(std::get<GenerateRequest>(pending.request), model));
  }
  std::visit(
      [&request](const auto& in) {
        request.priority = in.priority;
        request.tenant = in.tenant;
        request.deadline = in.deadline;
      },
      pending.request);
  request.call = pending.call;
  request.queue = pending.queue;
  request.tag = pending.tag;
  request.model = model.info.name;
  request.accepted_at = pending.accepted_at;
  request.weight = pending.visit->rule().weight;
  request.max_queue_share = pending.visit->rule().max_queue_share;
  request.ended = [visit = pending.visit](const Usage& usage) { visit->Leave(usage); };
  pending.visit->ChargePrompt(request.pooled ? request.pooled->num_tokens()
                                             : static_cast<int64_t>(request.prompt_tokens.size()));
  return request;
}

absl::StatusOr<Request> LocalService::BuildGenerate(const GenerateRequest& in,
                                                    const LoadedModel& model) const {
  RETURN_IF_ERROR(CheckGenerates(model.info));
  ASSIGN_OR_RETURN(SamplingParams sampling, ResolveSampling(in.sampling, model.info, DrawSeed()));
  ASSIGN_OR_RETURN(std::vector<TokenId> tokens, TokenizePrompt(in.prompt, in.parse_special, true,
                                                               in.add_generation_prompt, model));
  const bool chat = std::holds_alternative<std::vector<ChatMessage>>(in.prompt);
  const std::string_view param = chat ? "messages" : "prompt";
  if (tokens.empty()) return FieldError(param, "the prompt has no tokens; it needs at least one");
  for (const TokenId token : in.resume_output_tokens) {
    if (token < 0 || token >= model.info.vocab_size) {
      return FieldError(
          "resume_output_tokens",
          fmt::format("resume_output_tokens has token {}; the vocabulary has tokens 0 to {}", token,
                      model.info.vocab_size - 1));
    }
  }
  if (!in.resume_output_tokens.empty() && in.sampling.n > 1) {
    return FieldError("resume_output_tokens",
                      fmt::format("resume_output_tokens needs n = 1; n is {}", in.sampling.n));
  }
  if (in.stream_interval < 1 || in.stream_interval > kMaxStreamInterval) {
    return FieldError("stream_interval", fmt::format("stream_interval is {}; it must be in [1, {}]",
                                                     in.stream_interval, kMaxStreamInterval));
  }
  auto max_output_tokens =
      ResolveMaxOutputTokens(in, model.info, static_cast<int64_t>(tokens.size()));
  if (!max_output_tokens.ok()) {
    const absl::Status& status = max_output_tokens.status();
    return ErrorParam(status) == "messages" ? WithParam(status, param) : status;
  }
  Request request;
  request.prompt_tokens = std::move(tokens);
  request.resume_output_tokens = in.resume_output_tokens;
  request.num_choices = static_cast<int32_t>(in.sampling.n);
  request.max_output_tokens = *max_output_tokens;
  request.output = {.stop = in.sampling.stop,
                    .skip_special_tokens = in.skip_special_tokens,
                    .include_stop_str_in_output = in.include_stop_str_in_output,
                    .min_tokens = sampling.min_tokens,
                    .logprobs = sampling.num_logprobs >= 0,
                    .interval = static_cast<size_t>(in.stream_interval)};
  request.sampling = std::make_shared<const SamplingParams>(std::move(sampling));
  return request;
}

void LocalService::Refuse(const Pending& pending, absl::Status status) {
  metrics_->CountRefused(RefusalReason(status));
  End end{.reason = FinishReason::kError};
  if (absl::IsCancelled(status)) end.reason = FinishReason::kCancelled;
  if (absl::IsDeadlineExceeded(status)) end.reason = FinishReason::kDeadline;
  if (absl::IsUnavailable(status)) end.retry_after = options_.drain_timeout;
  if (absl::IsResourceExhausted(status)) end.retry_after = absl::Seconds(1);
  if (const absl::Duration known = RetryAfterOf(status); known > absl::ZeroDuration())
    end.retry_after = known;
  if (pending.visit != nullptr) pending.visit->Leave({});  // before a client can see the End
  end.status = std::move(status);
  std::vector<StreamEvent> events;
  events.push_back({pending.tag, std::move(end)});
  pending.queue->Publish(std::move(events));
}

void LocalService::Cancel(CallId call) {
  const MutexLock lock(mutex_);
  const auto it = preparing_.find(call);
  if (it != preparing_.end()) {
    it->second = true;
    return;
  }
  for (const ModelRef& model : models_.All()) model->engine->Cancel(call);
}

absl::StatusOr<TokenizeResult> LocalService::Tokenize(const TokenizeRequest& request) const {
  ASSIGN_OR_RETURN(const ModelRef model, models_.Find(request.model));
  std::variant<Text, std::vector<ChatMessage>, std::vector<TokenId>> prompt;
  std::visit([&](const auto& p) { prompt = p; }, request.prompt);
  TokenizeResult result;
  ASSIGN_OR_RETURN(result.tokens,
                   TokenizePrompt(prompt, request.parse_special, request.add_special_tokens,
                                  request.add_generation_prompt, *model));
  for (const TokenId token : result.tokens) {
    result.token_bytes.emplace_back(std::string(model->tokenizer->TokenBytes(token)));
  }
  result.max_model_len = model->info.max_model_len;
  return result;
}

absl::StatusOr<Text> LocalService::Detokenize(const std::string& name,
                                              const std::vector<TokenId>& tokens) const {
  ASSIGN_OR_RETURN(const ModelRef model, models_.Find(name));
  for (const TokenId token : tokens) {
    if (token < 0 || token >= model->info.vocab_size) {
      return FieldError("tokens", fmt::format("tokens has {}; the vocabulary has tokens 0 to {}",
                                              token, model->info.vocab_size - 1));
    }
  }
  return Text(model->tokenizer->Decode(tokens, false));
}

absl::Status LocalService::LoadModel(const LoadModelRequest& request) {
  if (!options_.load_model) return Service::LoadModel(request);
  for (const ModelRef& model : models_.All()) {
    if (model->info.name != request.name) continue;
    return absl::AlreadyExistsError(fmt::format("model {:?} is loaded already", request.name));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model, options_.load_model(request));
  return models_.Add(std::move(model));
}

absl::StatusOr<bool> LocalService::UnloadModel(const std::string& name) {
  ASSIGN_OR_RETURN(const ModelRef model, models_.Retire(name));
  Log(LogLevel::kInfo, "model_unloading", {{"model", name}});
  const absl::Time end = absl::Now() + options_.drain_timeout;
  while (!ModelRegistry::Unused(model) && absl::Now() < end) absl::SleepFor(kUnloadPoll);
  const bool drained = ModelRegistry::Unused(model);
  models_.Remove(model);
  Log(LogLevel::kInfo, "model_unloaded", {{"model", name}, {"drained", drained}});
  return drained;
}

std::vector<ModelDescription> LocalService::ListModels() const {
  std::vector<ModelDescription> out;
  for (const ModelRef& model : models_.Serving()) {
    out.push_back({.id = model->info.name,
                   .aliases = model->aliases,
                   .created = absl::ToUnixSeconds(model->loaded_at),
                   .max_model_len = model->info.max_model_len,
                   .architecture = model->info.architecture,
                   .task = model->info.task});
  }
  return out;
}

Health LocalService::GetHealth() const {
  for (const ModelRef& model : models_.All()) {
    const Engine::Health health = model->engine->health();
    if (!health.live) return {.live = false, .ready = false, .reason = "device error"};
    if (!health.advancing) return {.live = true, .ready = false, .reason = "no progress: engine"};
  }
  if (const std::string late = stages_.Late(clock_->Now()); !late.empty())
    return {.live = true, .ready = false, .reason = "no progress: " + late};
  if (draining_.load()) return {.live = true, .ready = false, .reason = "draining"};
  return {.live = true, .ready = true, .reason = ""};
}

void LocalService::Drain() { draining_.store(true); }

bool LocalService::Drained() const {
  {
    const MutexLock lock(mutex_);
    if (!preparing_.empty()) return false;
  }
  for (const ModelRef& model : models_.All()) {
    if (!model->engine->idle()) return false;
  }
  return true;
}

}  // namespace sluice
