#include "tests/scheduler/random_trace.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "executor/simulated_executor.h"

namespace sluice {
namespace {

constexpr int32_t kBlockTokens = 4, kMaxRows = 6, kMaxModelLen = 90, kVocab = 40;
constexpr TokenId kStopToken = 7;

struct Live {
  std::vector<TokenId> tokens;  // prompt, then all the output it could ever have
  int32_t num_prompt_tokens = 0, num_output_tokens = 0, max_output_tokens = 0, priority = 0;
  bool may_stop = false, prompt_is_computed = false, pooled = false;
  SequenceId leader = 0;
  uint64_t admission = 0;  // order of the first row; 0: none yet
};

class Trace {
 public:
  explicit Trace(const TraceOptions& options);
  TraceSummary Run();

 private:
  uint64_t Random(uint64_t bound) { return random_() % bound; }
  bool OneIn(uint64_t n) { return Random(n) == 0; }
  [[nodiscard]] int32_t MaxStepTokens() const { return options_.whole_prompts ? 96 : 20; }

  void Arrive();
  std::vector<TokenId> MakePrompt(uint64_t tenant);
  bool AddOne(SequenceSpec spec);
  void EndOneFromOutside();
  void Plan();
  void CheckPlan(const BatchPlan& plan);
  void CheckProgress(const BatchPlan& plan);
  void ApplyOldest();
  void TakeUpdate(const SequenceUpdate& update);
  void HashPlan(const BatchPlan& plan);
  bool Expect(bool condition, const std::string& what) {
    if (!condition && summary_.error.empty())
      summary_.error = fmt::format("step {}: {}", summary_.num_steps, what);
    return condition;
  }

  const TraceOptions options_;
  std::mt19937_64 random_;
  std::map<SequenceId, Live> live_;
  std::vector<std::vector<TokenId>> shared_prefixes_;
  std::vector<std::shared_ptr<const SamplingParams>>
      samplings_;  // plain, with a stop token, with penalties
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<SimulatedExecutor> executor_;
  std::deque<BatchPlan> in_flight_;
  absl::Time now_ = absl::UnixEpoch();
  SequenceId last_id_ = 0;
  uint64_t last_admission_ = 0;
  SequenceId oldest_ = 0;
  int64_t wait_of_oldest_ = 0;
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash_{XXH3_createState(),
                                                                 &XXH3_freeState};
  TraceSummary summary_;
};

Trace::Trace(const TraceOptions& options) : options_(options), random_(options.seed) {
  XXH3_64bits_reset(hash_.get());
  SchedulerConfig config;
  config.max_rows = kMaxRows;
  config.max_step_tokens = MaxStepTokens();
  config.kv_block_tokens = kBlockTokens;
  config.num_kv_blocks = options.num_kv_blocks;
  config.max_model_len = kMaxModelLen;
  config.max_waiting_sequences = 10;
  config.max_waiting_tokens = 300;
  config.max_steps_in_flight = options.steps_in_flight;
  config.prefix_cache = options.prefix_cache;
  config.whole_prompts = options.whole_prompts;
  config.keeps_kv = options.keeps_kv;
  scheduler_ = std::make_unique<Scheduler>(config);

  SimulatedExecutorConfig simulated;
  simulated.max_rows = kMaxRows;
  simulated.kv_block_tokens = kBlockTokens;
  simulated.num_kv_blocks = options.num_kv_blocks;
  simulated.max_steps_in_flight = options.steps_in_flight;
  simulated.whole_prompts = options.whole_prompts;
  simulated.keeps_kv = options.keeps_kv;
  simulated.output_token = [](SequenceId id, int32_t index) {
    return HashedToken(id, index, kVocab);
  };
  simulated.expected_tokens = [this](SequenceId id) -> std::span<const TokenId> {
    const auto it = live_.find(id);
    return it == live_.end() ? std::span<const TokenId>() : it->second.tokens;
  };
  executor_ = std::make_unique<SimulatedExecutor>(std::move(simulated));

  for (int i = 0; i < 5; ++i) {
    auto& prefix = shared_prefixes_.emplace_back(4 + Random(36));
    for (TokenId& token : prefix) token = static_cast<TokenId>(Random(kVocab));
  }
  SamplingParams sampling;
  samplings_.push_back(std::make_shared<SamplingParams>(sampling));
  sampling.stop_token_ids = {kStopToken};
  sampling.min_tokens = 2;
  samplings_.push_back(std::make_shared<SamplingParams>(sampling));
  sampling.presence_penalty = 1;
  samplings_.push_back(std::make_shared<SamplingParams>(sampling));
}

TraceSummary Trace::Run() {
  // Idle ticks are few; the bound only ends a run that makes no progress.
  for (int64_t tick = 0; summary_.error.empty(); ++tick) {
    const bool closing = summary_.num_steps >= options_.num_steps;
    if (closing && !scheduler_->HasSequences()) break;
    if (!Expect(tick < 20 * options_.num_steps + 10000, "the sequences do not end")) break;
    if (!closing && OneIn(4)) Arrive();
    if (OneIn(25)) EndOneFromOutside();
    Plan();
    scheduler_->CheckInvariants();
    const bool full = in_flight_.size() >= static_cast<size_t>(options_.steps_in_flight);
    if (!in_flight_.empty() && (full || OneIn(3))) ApplyOldest();
    scheduler_->CheckInvariants();
  }
  summary_.stats = scheduler_->stats();
  if (summary_.error.empty()) {
    Expect(live_.empty(), fmt::format("{} sequences never ended", live_.size()));
    Expect(summary_.stats.num_referenced_blocks == 0, "blocks are held at the end");
    Expect(
        summary_.stats.num_free_blocks + summary_.stats.num_cached_blocks == options_.num_kv_blocks,
        "lost blocks");
  }
  summary_.plan_hash = XXH3_64bits_digest(hash_.get());
  return std::move(summary_);
}

// Half of the prompts begin with a shared prefix; some are as long as the context, some are longer.
std::vector<TokenId> Trace::MakePrompt(uint64_t tenant) {
  std::vector<TokenId> prompt;
  if (OneIn(2)) prompt = shared_prefixes_[(tenant + Random(2)) % shared_prefixes_.size()];
  const uint64_t tail = 1 + Random(OneIn(12) ? kMaxModelLen + 4 : 20);
  for (uint64_t i = 0; i < tail; ++i) prompt.push_back(static_cast<TokenId>(Random(kVocab)));
  return prompt;
}

void Trace::Arrive() {
  const uint64_t tenant = Random(4);
  SequenceSpec spec;
  spec.sampling = samplings_[Random(samplings_.size())];
  spec.prompt_tokens = MakePrompt(tenant);
  spec.max_output_tokens = static_cast<int32_t>(1 + Random(30));
  spec.priority = static_cast<int32_t>(Random(3));
  spec.tenant = fmt::format("tenant-{}", tenant);
  spec.read_prefix_cache = !OneIn(10);
  if (OneIn(8)) spec.deadline = now_ + absl::Milliseconds(Random(60));
  if (OneIn(6)) {
    const uint64_t num_resumed = Random(spec.max_output_tokens);
    for (uint64_t i = 0; i < num_resumed; ++i) {
      spec.resume_output_tokens.push_back(static_cast<TokenId>(Random(kVocab)));
    }
  }
  // Drawn only where there are such sequences: the other traces stay what they were.
  spec.pooled =
      options_.pooled_of_ten > 0 && Random(10) < static_cast<uint64_t>(options_.pooled_of_ten);
  if (spec.pooled) spec.resume_output_tokens.clear();
  const uint64_t num_choices = OneIn(6) ? 2 + Random(3) : 1;
  SequenceId leader = 0;
  for (uint64_t choice = 0; choice < num_choices; ++choice) {
    spec.id = ++last_id_;
    spec.choice = static_cast<uint32_t>(choice);
    spec.leader = leader;
    if (AddOne(spec) && leader == 0) leader = spec.id;
  }
}

bool Trace::AddOne(SequenceSpec spec) {
  Live live;
  live.tokens = spec.prompt_tokens;
  live.num_prompt_tokens = static_cast<int32_t>(spec.prompt_tokens.size());
  live.tokens.insert(live.tokens.end(), spec.resume_output_tokens.begin(),
                     spec.resume_output_tokens.end());
  live.num_output_tokens = static_cast<int32_t>(spec.resume_output_tokens.size());
  const int32_t room =
      (options_.keeps_kv ? std::min(kMaxModelLen, options_.num_kv_blocks * kBlockTokens)
                         : kMaxModelLen) -
      live.num_prompt_tokens;
  live.pooled = spec.pooled;
  live.max_output_tokens =
      spec.pooled ? (room >= 0 ? 1 : 0) : std::min(spec.max_output_tokens, room);
  live.priority = spec.priority;
  live.may_stop = !spec.sampling->stop_token_ids.empty();
  live.leader = options_.prefix_cache && spec.read_prefix_cache ? spec.leader : 0;
  // The executor may compute tokens beyond a stop token, planned ahead of it.
  for (int32_t i = live.num_output_tokens; i < live.max_output_tokens && !spec.pooled; ++i) {
    live.tokens.push_back(HashedToken(spec.id, i, kVocab));
  }
  const SequenceId id = spec.id;
  const bool fits = live.num_output_tokens < live.max_output_tokens;
  summary_.num_held += live.leader != 0 ? 1 : 0;
  const absl::Status status = scheduler_->Add(std::move(spec));
  if (status.ok()) {
    Expect(fits, "a sequence was taken that never fits");
    ++summary_.num_added;
    live_.emplace(id, std::move(live));
  } else if (absl::IsInvalidArgument(status)) {
    Expect(!fits, "a sequence was refused that fits");
    ++summary_.num_unfit;
  } else {
    Expect(absl::IsResourceExhausted(status), status.ToString());
    ++summary_.num_full;
  }
  return status.ok();
}

void Trace::EndOneFromOutside() {
  if (live_.empty()) return;
  auto it = live_.begin();
  std::advance(it, static_cast<ptrdiff_t>(Random(live_.size())));
  if (OneIn(2)) {
    scheduler_->Cancel(it->first);
    ++summary_.num_cancelled;
  } else {
    scheduler_->Finish(it->first, static_cast<int32_t>(Random(it->second.num_output_tokens + 1)));
    ++summary_.num_finished;
  }
  live_.erase(it);
}

void Trace::Plan() {
  const bool may_plan = in_flight_.size() < static_cast<size_t>(options_.steps_in_flight);
  ScheduleResult scheduled = scheduler_->Schedule(now_);
  for (const SequenceUpdate& update : scheduled.ended) {
    Expect(update.finished == FinishReason::kDeadline,
           "Schedule ended a sequence without a deadline");
    TakeUpdate(update);
  }
  if (scheduled.plan.empty()) {
    Expect(!in_flight_.empty() || !scheduler_->HasSequences(), "sequences, but nothing to do");
    if (in_flight_.empty()) now_ += absl::Milliseconds(1);
    return;
  }
  Expect(may_plan, "too many steps in flight");
  CheckPlan(scheduled.plan);
  CheckProgress(scheduled.plan);
  HashPlan(scheduled.plan);
  const absl::Status status = executor_->Submit(scheduled.plan);
  Expect(status.ok(), status.ToString());
  in_flight_.push_back(std::move(scheduled.plan));
}

void Trace::CheckPlan(const BatchPlan& plan) {
  Expect(plan.num_tokens() <= MaxStepTokens(), "more tokens than the budget");
  Expect(plan.num_rows() <= kMaxRows, "more rows than allowed");
  std::vector<SequenceId> ids;
  for (const Row& row : plan.rows) {
    ids.push_back(row.sequence);
    const auto it = live_.find(row.sequence);
    if (!Expect(it != live_.end(), "a row for a sequence that has ended")) return;
    Live& live = it->second;
    Expect(row.num_output_tokens < live.max_output_tokens, "planned beyond the length limit");
    if (live.admission != 0) continue;
    live.admission = ++last_admission_;
    const auto leader = live_.find(live.leader);
    Expect(leader == live_.end() || leader->second.prompt_is_computed,
           "a choice ran before its leader's prompt");
  }
  std::ranges::sort(ids);
  Expect(std::ranges::adjacent_find(ids) == ids.end(), "two rows for one sequence");
  summary_.num_rows_planned_ahead += std::ranges::count(plan.tokens, kTokenFromSlot);
}

// The admitted sequence of the best priority and greatest age must get a row again and again. It
// may have been preempted before it was that, and then waits for its tenant's turn.
void Trace::CheckProgress(const BatchPlan& plan) {
  SequenceId best = 0;
  for (const auto& [id, live] : live_) {
    if (live.admission == 0) continue;
    if (best == 0 || std::pair(live.priority, live.admission) <
                         std::pair(live_[best].priority, live_[best].admission)) {
      best = id;
    }
  }
  const bool has_row =
      std::ranges::any_of(plan.rows, [best](const Row& row) { return row.sequence == best; });
  if (best != oldest_ || has_row) wait_of_oldest_ = 0;
  if (!has_row) ++wait_of_oldest_;
  oldest_ = best;
  summary_.longest_wait_of_oldest = std::max(summary_.longest_wait_of_oldest, wait_of_oldest_);
  Expect(wait_of_oldest_ <= 20 * kMaxRows,
         fmt::format("sequence {} waited for {} steps", best, wait_of_oldest_));
}

void Trace::ApplyOldest() {
  const BatchPlan plan = std::move(in_flight_.front());
  in_flight_.pop_front();
  auto result = executor_->Wait(plan.step);
  if (!Expect(result.ok(), result.status().ToString())) return;
  now_ += result->device_time;
  for (size_t r = 0; r < plan.rows.size(); ++r) {
    const auto it = live_.find(plan.rows[r].sequence);
    if (it != live_.end() && plan.context_len[r] >= it->second.num_prompt_tokens)
      it->second.prompt_is_computed = true;
  }
  for (const SequenceUpdate& update : scheduler_->Apply(*std::move(result))) TakeUpdate(update);
  ++summary_.num_steps;
}

void Trace::TakeUpdate(const SequenceUpdate& update) {
  const auto it = live_.find(update.sequence);
  if (!Expect(it != live_.end(), "an update for a sequence that has ended")) return;
  Live& live = it->second;
  bool stopped = false;
  if (live.pooled && update.finished == FinishReason::kStop) {
    Expect(update.tokens.empty() && update.pooled == HashedVector(update.sequence, 8),
           "a wrong vector");
    Expect(live.prompt_is_computed, "a vector of a piece of a prompt");
    ++summary_.num_pooled;
    live_.erase(it);
    return;
  }
  for (const SampledToken& sampled : update.tokens) {
    Expect(!stopped && live.num_output_tokens < live.max_output_tokens, "a token beyond the end");
    Expect(sampled.token == live.tokens[live.num_prompt_tokens + live.num_output_tokens],
           "a wrong token");
    stopped = live.may_stop && sampled.token == kStopToken && live.num_output_tokens >= 2;
    ++live.num_output_tokens;
  }
  const bool length = live.num_output_tokens == live.max_output_tokens;
  if (!update.finished) {
    Expect(!stopped && !length && !update.tokens.empty(), "an end was missed");
    return;
  }
  switch (*update.finished) {
    case FinishReason::kStop:
      Expect(stopped, "no stop token"), ++summary_.num_stopped;
      break;
    case FinishReason::kLength:
      Expect(length && !stopped, "not at the length limit"), ++summary_.num_length;
      break;
    case FinishReason::kDeadline:
      Expect(update.tokens.empty(), "late tokens"), ++summary_.num_deadline;
      break;
    default:
      Expect(false, "a wrong reason");
  }
  live_.erase(it);
}

void Trace::HashPlan(const BatchPlan& plan) {
  const auto add = [this](const auto& values) {
    const uint64_t size = values.size();
    XXH3_64bits_update(hash_.get(), &size, sizeof(size));
    XXH3_64bits_update(hash_.get(), values.data(), size * sizeof(values[0]));
  };
  add(plan.tokens);
  add(plan.positions);
  add(plan.row_begin);
  add(plan.context_len);
  add(plan.blocks);
  add(plan.block_begin);
  for (const Row& row : plan.rows) {
    add(std::vector<uint64_t>{row.sequence, static_cast<uint64_t>(row.slot),
                              static_cast<uint64_t>(row.output),
                              static_cast<uint64_t>(row.num_output_tokens)});
  }
  for (const SlotInit& init : plan.slot_inits) {
    add(std::vector<uint64_t>{plan.step, static_cast<uint64_t>(init.slot), init.choice});
    add(init.prompt_tokens);
    add(init.output_tokens);
  }
}

}  // namespace

TraceSummary RunTrace(const TraceOptions& options) { return Trace(options).Run(); }

}  // namespace sluice
