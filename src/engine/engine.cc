#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>

#include "base/check.h"
#include "base/errors.h"
#include "base/logging.h"
#include "base/retry_after.h"
#include "base/status_macros.h"
#include "base/thread_name.h"

namespace sluice {
namespace {

constexpr char kDeviceFailed[] = "the device has failed; the server is about to restart";
// The first step may load code and touch memory for the first time, and nothing is known of it.
constexpr absl::Duration kFirstStep = absl::Minutes(1);
constexpr int kSlowSteps = 4;  // times the worst step of late: that is no slow step any more

Demand DemandOf(const Request& request) {
  return {.tenant = request.tenant,
          .weight = request.weight,
          .max_queue_share = request.max_queue_share,
          .sequences = request.num_sequences(),
          .tokens = request.num_waiting_tokens(),
          .deadline = request.deadline};
}

}  // namespace

Engine::Engine(EngineOptions options, std::unique_ptr<Executor> executor,
               const Tokenizer& tokenizer, Metrics& metrics, const Clock& clock)
    : options_(std::move(options)),
      executor_(std::move(executor)),
      tokenizer_(tokenizer),
      metrics_(metrics),
      clock_(clock),
      admission_(AdmissionLimits::Of(options_.scheduler, options_.max_wait)),
      must_advance_by_(absl::InfiniteFuture()),
      scheduler_(options_.scheduler) {
  metrics_.SetCacheConfig(options_.scheduler.kv_block_tokens, options_.scheduler.num_kv_blocks);
  thread_ = std::thread([this] {
    NameThread("engine");
    Run();
  });
}

Engine::~Engine() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

absl::Status Engine::Submit(Request request) {
  const Demand demand = DemandOf(request);
  const absl::Time now = clock_.Now();
  {
    const MutexLock lock(mutex_);
    if (failed_) return absl::UnavailableError(kDeviceFailed);
    RETURN_IF_ERROR(admission_.Check(demand, now));
    admission_.Add(demand);
    if (!std::exchange(busy_, true)) must_advance_by_ = now + options_.stall_timeout;
    metrics_.orphans.EngineAdded();
    inbox_.requests.push_back(std::move(request));
  }
  wake_.notify_one();
  return absl::OkStatus();
}

absl::Status Engine::Check(const Demand& demand) const {
  const absl::Time now = clock_.Now();
  const MutexLock lock(mutex_);
  if (failed_) return absl::UnavailableError(kDeviceFailed);
  return admission_.Check(demand, now);
}

void Engine::Cancel(CallId call) {
  {
    const MutexLock lock(mutex_);
    inbox_.cancels.push_back(call);
  }
  wake_.notify_one();
}

Engine::Health Engine::health() const {
  const absl::Time now = clock_.Now();
  const MutexLock lock(mutex_);
  return {.live = !failed_, .advancing = !busy_ || now < must_advance_by_};
}

bool Engine::idle() const {
  const MutexLock lock(mutex_);
  return !busy_;
}

void Engine::Run() {
  while (DrainInbox()) {
    if (!device_failed_) {
      FeedPooledCalls();
      SubmitSteps();
    }
    if (!in_flight_.empty()) {
      FinishStep();
    } else if (!device_failed_ && scheduler_.HasSequences()) {
      absl::SleepFor(
          absl::Milliseconds(1));  // nothing can run: health shows it, the core does not burn
    }
    PublishMetrics();  // first: a client that has seen its End finds the metrics say so
    PublishEvents();
    PublishState();  // last: idle() must not be true while an End is still in our hands
  }
  std::vector<Call*> calls;
  for (auto& [id, call] : calls_) calls.push_back(call.get());
  for (Call* call : calls) {
    EndCall(*call, absl::CancelledError("the server is shutting down"), FinishReason::kCancelled);
  }
  PublishEvents();
}

bool Engine::DrainInbox() {
  Inbox inbox;
  bool stop = false;
  {
    std::unique_lock<Mutex> lock(mutex_);
    const bool work = !in_flight_.empty() || scheduler_.HasSequences() || !backlog_.empty();
    if (device_failed_ || !work) {
      wake_.wait(lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return stop_ || !inbox_.requests.empty() || !inbox_.cancels.empty();
      });
      must_advance_by_ = clock_.Now() + options_.stall_timeout;
    }
    stop = stop_;
    std::swap(inbox, inbox_);
  }
  // Requests first: a cancel may be for one that came in the same batch.
  for (Request& request : inbox.requests) Add(std::move(request));
  for (const CallId call : inbox.cancels) CancelCall(call);
  return !stop;  // what came last was taken all the same: it too must have its End
}

void Engine::Add(Request request) {
  const CallId id = request.call;
  auto owned = std::make_unique<Call>(Call{.request = std::move(request)});
  Call& call = *owned;
  const Request& r = call.request;
  calls_.emplace(id, std::move(owned));
  if (device_failed_) {
    EndCall(call, absl::UnavailableError(kDeviceFailed), FinishReason::kError);
    return;
  }
  if (r.pooled) return AddPooled(call);
  call.usage.prompt_tokens = static_cast<int64_t>(r.prompt_tokens.size());
  const SequenceId leader = next_sequence_;
  for (int32_t choice = 0; choice < r.num_choices; choice++) {
    SequenceSpec spec{.id = next_sequence_++,
                      .sampling = r.sampling,
                      .choice = static_cast<uint32_t>(choice),
                      .prompt_tokens = r.prompt_tokens,
                      .resume_output_tokens = r.resume_output_tokens,
                      .max_output_tokens = r.max_output_tokens,
                      .priority = r.priority,
                      .tenant = r.tenant,
                      .weight = r.weight,
                      .arrival_time = r.accepted_at,
                      .deadline = r.deadline,
                      .leader = choice == 0 ? 0 : leader};
    const SequenceId sequence = spec.id;
    const absl::Status added = scheduler_.Add(std::move(spec));
    if (!added.ok()) {
      EndCall(call, added, FinishReason::kError);
      return;
    }
    call.choices.push_back({.sequence = sequence, .output = ChoiceOutput(tokenizer_, r.output)});
    call.choices.back().output.Resume(r.resume_output_tokens);
    call.num_live++;
    sequences_[sequence] = {&call, choice};
  }
  metrics_.CountPromptTokens(call.usage.prompt_tokens);
  Emit(r, Accepted{.model = r.model,
                   .seed = r.sampling->seed,
                   .prompt_tokens = call.usage.prompt_tokens,
                   .system_fingerprint = options_.system_fingerprint});
}

void Engine::CancelCall(CallId id) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  if (options_.plant_leak && !leaked_) {
    leaked_ = true;
    Call& call = *it->second;
    for (const Choice& choice : call.choices) sequences_.erase(choice.sequence);
    backlog_.erase(id);
    Emit(call.request,
         End{.status = absl::CancelledError("cancelled"), .reason = FinishReason::kCancelled});
    calls_.erase(it);
    return;
  }
  EndCall(*it->second, absl::CancelledError("the client cancelled the request"),
          FinishReason::kCancelled);
}

void Engine::SubmitSteps() {
  while (static_cast<int>(in_flight_.size()) < executor_->max_steps_in_flight()) {
    const absl::Time now = clock_.Now();
    ScheduleResult result = scheduler_.Schedule(now);
    for (SequenceUpdate& update : result.ended) Take(std::move(update), now);
    BatchPlan& plan = result.plan;
    if (plan.empty()) return;
    InFlight step{.step = plan.step, .num_tokens = plan.num_tokens(), .began = now};
    step.sequences.reserve(plan.rows.size());
    for (const Row& row : plan.rows) {
      step.sequences.push_back(row.sequence);
      const auto it = sequences_.find(row.sequence);
      if (it == sequences_.end() || it->second.first->planned) continue;
      it->second.first->planned = true;
      metrics_.ObserveQueueTime(now - it->second.first->request.accepted_at);
    }
    ExpectProgress(step.num_tokens);
    in_flight_.push_back(std::move(step));
    const absl::Status submitted = executor_->Submit(std::move(plan));
    if (!submitted.ok()) {
      Fail(submitted);
      return;
    }
  }
}

// Within what such a step takes at worst.
void Engine::ExpectProgress(int64_t step_tokens) {
  const absl::Time now = clock_.Now();
  const MutexLock lock(mutex_);
  const auto worst = admission_.durations().Worst(step_tokens);
  must_advance_by_ =
      now + (worst ? std::max(options_.stall_timeout, kSlowSteps * *worst) : kFirstStep);
}

void Engine::FinishStep() {
  ExpectProgress(in_flight_.front().num_tokens);
  absl::StatusOr<StepResult> result = executor_->Wait(in_flight_.front().step);
  if (!result.ok()) {
    Fail(result.status());
    return;
  }
  const InFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  const absl::Time now = clock_.Now();
  metrics_.CountStep(step.num_tokens, result->device_time);
  if (result->idle_before) metrics_.CountSimulatedStep(result->device_time, *result->idle_before);
  for (SequenceUpdate& update : scheduler_.Apply(*std::move(result))) Take(std::move(update), now);
  const absl::Time began = std::max(step.began, std::exchange(last_step_end_, now));
  const SchedulerStats stats = scheduler_.stats();
  const MutexLock lock(mutex_);
  must_advance_by_ = now + options_.stall_timeout;
  admission_.durations().Observe(step.num_tokens, now - began);
  admission_.StepEnded(now, stats.num_admitted_tokens, stats.num_waiting > 0);
}

void Engine::Take(SequenceUpdate update, absl::Time now) {
  const auto it = sequences_.find(update.sequence);
  if (it == sequences_.end()) return;
  Call& call = *it->second.first;
  const int32_t index = it->second.second;
  if (update.finished == FinishReason::kDeadline) {
    EndCall(call,
            call.planned
                ? WithErrorCode(
                      absl::DeadlineExceededError("the request's deadline passed while it ran"),
                      "deadline_while_running")
                : WithErrorCode(
                      absl::DeadlineExceededError("the request's deadline passed in the queue"),
                      "deadline_in_queue"),
            FinishReason::kDeadline);
    return;
  }
  if (call.pooled) return TakePooled(call, std::move(update));
  Choice& choice = call.choices[index];
  call.usage.cached_tokens = std::max<int64_t>(call.usage.cached_tokens, update.num_cached_tokens);
  std::span<const SampledToken> tokens = update.tokens;
  const SampledToken* stop_token = nullptr;
  if (update.finished == FinishReason::kStop && !tokens.empty()) {
    stop_token = &tokens.back();
    tokens = tokens.first(tokens.size() - 1);
  }
  const int32_t before = choice.output.num_tokens();
  ChoiceOutput::Piece piece = choice.output.Append(tokens);
  std::optional<FinishReason> finish = update.finished;
  if (piece.stopped) {
    if (!finish) scheduler_.Finish(choice.sequence, piece.num_kept_tokens);
    finish = FinishReason::kStop;
  } else if (finish) {
    ChoiceOutput::Piece rest = choice.output.Close(stop_token);
    piece.content.Append(rest.content);
    piece.tokens.insert(piece.tokens.end(), rest.tokens.begin(), rest.tokens.end());
    std::move(rest.logprobs.begin(), rest.logprobs.end(), std::back_inserter(piece.logprobs));
  }
  CountTokens(call, choice, choice.output.num_tokens() - before, now);
  if (finish || !piece.tokens.empty()) EmitPiece(call, index, std::move(piece), finish);
  if (finish) EndChoice(call, choice, *finish);
}

void Engine::CountTokens(Call& call, Choice& choice, size_t num_tokens, absl::Time now) {
  if (num_tokens == 0) return;
  call.usage.output_tokens += static_cast<int64_t>(num_tokens);
  metrics_.CountOutputTokens(static_cast<int64_t>(num_tokens));
  if (choice.first_token_at == absl::InfinitePast()) {
    choice.first_token_at = now;
    metrics_.ObserveTtft(now - call.request.accepted_at);
  } else {
    const auto count = static_cast<int64_t>(num_tokens);
    metrics_.ObserveItl((now - choice.last_token_at) / count, count);
  }
  choice.last_token_at = now;
}

void Engine::EmitPiece(const Call& call, int32_t choice, ChoiceOutput::Piece piece,
                       std::optional<FinishReason> finish) {
  Emit(call.request, TokenEvent{.choice = choice,
                                .index = piece.index,
                                .content = std::move(piece.content),
                                .tokens = std::move(piece.tokens),
                                .logprobs = std::move(piece.logprobs),
                                .finish = finish});
}

void Engine::EndChoice(Call& call, Choice& choice, FinishReason reason) {
  choice.live = false;
  sequences_.erase(choice.sequence);
  const int32_t num_tokens = choice.output.num_tokens();
  if (num_tokens > 1 && choice.first_token_at != absl::InfinitePast()) {
    metrics_.ObserveTpot((choice.last_token_at - choice.first_token_at) / (num_tokens - 1));
  }
  call.reason = reason;
  if (--call.num_live == 0) EndCall(call, absl::OkStatus(), reason);
}

// Whatever still runs of the call leaves the scheduler; its one End goes out. `call` is gone
// afterwards.
void Engine::EndCall(Call& call, absl::Status status, FinishReason reason) {
  for (const Choice& choice : call.choices) {
    if (!choice.live) continue;
    sequences_.erase(choice.sequence);
    scheduler_.Cancel(choice.sequence);
  }
  if (call.pooled) {
    for (const auto& [sequence, input] : call.pooled->live()) {
      sequences_.erase(sequence);
      scheduler_.Cancel(sequence);
    }
    backlog_.erase(call.request.call);
  }
  metrics_.orphans.EngineRemoved();
  metrics_.ObserveEnd(reason, clock_.Now() - call.request.accepted_at, call.usage);
  if (call.request.ended) call.request.ended(call.usage);
  const absl::Duration retry_after = RetryAfterOf(status);
  Emit(call.request, End{.status = std::move(status),
                         .reason = reason,
                         .usage = call.usage,
                         .retry_after = retry_after});
  calls_.erase(call.request.call);
}

// The device is unusable: the failed step's requests get its true error, the others learn that the
// server restarts.
void Engine::Fail(const absl::Status& error) {
  Log(LogLevel::kError, "step_failed",
      {{"step", in_flight_.front().step}, {"error", error.ToString()}});
  {
    const MutexLock lock(mutex_);
    failed_ = true;
  }
  device_failed_ = true;
  std::vector<CallId> failed;
  for (const InFlight& step : in_flight_) {
    for (const SequenceId sequence : step.sequences) {
      const auto it = sequences_.find(sequence);
      if (it != sequences_.end()) failed.push_back(it->second.first->request.call);
    }
  }
  in_flight_.clear();
  for (const CallId id : failed) {
    const auto it = calls_.find(id);
    if (it == calls_.end()) continue;  // another choice of the same call
    EndCall(*it->second,
            absl::InternalError(fmt::format("the step failed: {}", std::string(error.message()))),
            FinishReason::kError);
  }
  while (!calls_.empty()) {
    EndCall(*calls_.begin()->second, absl::UnavailableError(kDeviceFailed), FinishReason::kError);
  }
}

void Engine::Emit(const Request& request,
                  std::variant<Accepted, TokenEvent, VectorEvent, End> event) {
  auto box = std::ranges::find(outbox_, request.queue, &Outbox::queue);
  if (box == outbox_.end()) box = outbox_.insert(box, {.queue = request.queue});
  if (box->events.empty()) box->events.reserve(box->last_size + 1);
  box->events.push_back({request.tag, std::move(event)});
}

void Engine::PublishEvents() {
  std::erase_if(outbox_, [](const Outbox& box) { return box.events.empty(); });
  for (Outbox& box : outbox_) {
    box.last_size = box.events.size();
    box.queue->Publish(std::exchange(box.events, {}));
  }
}

void Engine::PublishMetrics() {
  const SchedulerStats stats = scheduler_.stats();
  metrics_.SetEngine({.running = stats.num_running,
                      .waiting = stats.num_waiting,
                      .waiting_tokens = stats.num_waiting_tokens,
                      .kv_free_blocks = stats.num_free_blocks,
                      .kv_cached_blocks = stats.num_cached_blocks,
                      .kv_referenced_blocks = stats.num_referenced_blocks,
                      .preemptions = stats.num_preemptions,
                      .prefix_queries = stats.prefix_queries,
                      .prefix_hits = stats.prefix_hits});
  for (const auto& [name, tenant] : scheduler_.tenants())
    metrics_.SetTenantWaiting(name, tenant.num_waiting);
  if (fairness_.Observe(clock_.Now(), scheduler_.tenants()))
    metrics_.SetFairness(fairness_.value());
}

void Engine::PublishState() {
  Admission::Queue queue = Admission::QueueOf(scheduler_);
  for (const CallId id : backlog_) {
    const Call& call = *calls_[id];
    queue[call.request.tenant].tokens += call.pooled->num_backlog_tokens();
  }
  const MutexLock lock(mutex_);
  admission_.SetQueue(std::move(queue));
  for (const Request& request : inbox_.requests) admission_.Add(DemandOf(request));
  busy_ = !calls_.empty() || !inbox_.requests.empty();
}

}  // namespace sluice
