#include "apps/bench_offline.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/config_flags.h"
#include "apps/create.h"
#include "apps/load_flags.h"
#include "apps/offline_report.h"
#include "apps/offline_run.h"
#include "apps/pending_signals.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "bench/serve/monotonic.h"
#include "bench/serve/progress.h"
#include "bench/serve/result_json.h"

namespace sluice {
namespace {

namespace json = boost::json;

struct Flags {
  ConfigFlags settings;
  load::LoadOptions load;
  int64_t batch = 1, iterations = 10, warmup = 2, prompt_tokens = 128, output_tokens = 64;
  std::string json_file;
  bool quiet = false;
};

void AddCommonFlags(CLI::App* app, Flags& flags) {
  flags.settings.AddTo(app);
  AddPrefixFlags(app, flags.load.prompts);
  app->add_option("--json", flags.json_file, "Write the result; - for stdout");
  app->add_flag("--quiet", flags.quiet, "No progress");
}

// A model as `sluice serve` loads it, and what is seen of it while it is driven.
class Session {
 public:
  static absl::StatusOr<std::unique_ptr<Session>> Start(const Flags& flags, const CLI::App& app);

  // The model's first `count` tokens of `text`, begun again where it has fewer.
  absl::StatusOr<std::vector<TokenId>> TokensOf(const std::string& text, int64_t count,
                                                bool first) const;
  [[nodiscard]] GenerateRequest Request(const Flags& flags, int64_t id, int64_t max_tokens) const;
  // How requests are driven, and Ctrl-C and progress on the way.
  OfflineHooks Hooks(bool show);
  [[nodiscard]] OfflineFacts Facts(const OfflineRun& run) const;

  LocalService& service() { return *service_; }
  BlockingQueue& queue() { return queue_; }
  [[nodiscard]] int64_t max_rows() const { return config_.max_rows; }
  void ClearProgress() { view_.Clear(); }
  // From here on the engine's counts are the run's.
  void Begin() { before_ = after_ = ReadEngine(); }

 private:
  explicit Session(Config config) : config_(std::move(config)) {}
  [[nodiscard]] EngineFacts ReadEngine() const {
    return EngineFacts::Of(service_->metrics().Render());
  }
  void Look(const load::Progress& progress, bool show);

  const PendingSignals stop_{SIGINT, SIGTERM};  // first: the engine's threads inherit the mask
  const Config config_;
  BlockingQueue queue_;  // outlives the service
  std::unique_ptr<LocalService> service_;
  std::string model_;
  EngineFacts before_, after_;
  double kv_peak_blocks_ = 0, shown_s_ = 0;
  load::ProgressView view_{stderr, 0};
};

absl::StatusOr<std::unique_ptr<Session>> Session::Start(const Flags& flags, const CLI::App& app) {
  ASSIGN_OR_RETURN(Config config, flags.settings.Load(app));
  if (app.count("--log-level") == 0) config.log_level = "warn";  // figures are the output
  RETURN_IF_ERROR(SetUpLogging(config.log_level, config.log_format));
  std::unique_ptr<Session> session(new Session(std::move(config)));
  ASSIGN_OR_RETURN(session->service_, CreateLocalService(session->config_));
  const ModelDescription model = session->service_->ListModels().front();
  if (model.task != ModelTask::kGenerate)
    return absl::InvalidArgumentError(
        fmt::format("model {} gives vectors or scores; tokens are measured here", model.id));
  session->model_ = model.id;
  return session;
}

absl::StatusOr<std::vector<TokenId>> Session::TokensOf(const std::string& text, int64_t count,
                                                       bool first) const {
  ASSIGN_OR_RETURN(TokenizeResult result, service_->Tokenize({.model = model_,
                                                              .prompt = Text(text),
                                                              .parse_special = false,
                                                              .add_special_tokens = first}));
  std::vector<TokenId>& tokens = result.tokens;
  if (tokens.empty()) return absl::InternalError("the tokenizer gives no tokens for words");
  const size_t num_tokens = tokens.size();
  while (tokens.size() < static_cast<size_t>(count))
    tokens.push_back(tokens[tokens.size() - num_tokens]);
  tokens.resize(static_cast<size_t>(count));
  return std::move(tokens);
}

GenerateRequest Session::Request(const Flags& flags, int64_t id, int64_t max_tokens) const {
  GenerateRequest request;
  request.model = model_;
  request.sampling.temperature = flags.load.temperature;
  request.sampling.ignore_eos = flags.load.ignore_eos;
  request.sampling.max_tokens = max_tokens;
  if (flags.load.seed_each) request.sampling.seed = load::RequestSeed(flags.load.seed, id);
  return request;
}

void Session::Look(const load::Progress& progress, bool show) {
  after_ = ReadEngine();
  kv_peak_blocks_ = std::max(kv_peak_blocks_, after_.kv_referenced_blocks);
  if (!show || progress.seconds < shown_s_ + 1) return;
  shown_s_ = progress.seconds;
  view_.Show(progress);
}

OfflineHooks Session::Hooks(bool show) {
  return {.tick = [this, show](const load::Progress& progress) { Look(progress, show); },
          .stopped = [this] { return stop_.Any(); }};
}

OfflineFacts Session::Facts(const OfflineRun& run) const {
  OfflineFacts facts{.version = service_->GetVersion(),
                     .model = model_,
                     .before = before_,
                     .after = ReadEngine(),
                     .kv_peak_blocks = kv_peak_blocks_,
                     .num_refusals = run.num_refusals()};
  if (run.interrupted()) facts.doubts.emplace_back("the run was interrupted");
  return facts;
}

// A fixed batch, begun again and again with prompts that nobody has asked before.
class LatencyBench {
 public:
  LatencyBench(const Flags& flags, Session& session, load::PromptSource prompts)
      : flags_(flags),
        session_(session),
        prompts_(std::move(prompts)),
        run_(session.service(), session.queue(), session.Hooks(false)) {}

  absl::StatusOr<json::object> Run() {
    load::Measurement warmup = NewMeasurement();
    RETURN_IF_ERROR(Iterate(flags_.warmup, warmup, nullptr));
    session_.Begin();
    load::Measurement measured = NewMeasurement();
    load::Histogram batch;
    if (warmup.failed == 0) RETURN_IF_ERROR(Iterate(flags_.iterations, measured, &batch));
    OfflineFacts facts = session_.Facts(run_);
    if (warmup.failed > 0) facts.doubts.emplace_back("the warm-up failed: nothing was measured");
    if (flags_.batch > session_.max_rows())
      facts.doubts.push_back(fmt::format("a batch of {} does not fit {} rows: some wait for others",
                                         flags_.batch, session_.max_rows()));
    if (flags_.load.prompts.prefix_groups == 0 && measured.cached_tokens > 0)
      facts.doubts.emplace_back("fresh prompts were found in the prefix cache");
    return LatencyResult(facts, Options(), warmup.failed > 0 ? warmup : measured, batch);
  }

 private:
  static load::Measurement NewMeasurement() {
    const int64_t now_ns = load::NowNs();
    return {now_ns, now_ns, INT64_MAX, {}};
  }
  absl::StatusOr<std::vector<GenerateRequest>> MakeBatch();
  absl::Status Iterate(int64_t iterations, load::Measurement& measured, load::Histogram* batch);
  [[nodiscard]] json::object Options() const {
    return {{"batch", flags_.batch},
            {"prompt_tokens", flags_.prompt_tokens},
            {"output_tokens", flags_.output_tokens},
            {"iterations", flags_.iterations},
            {"warmup", flags_.warmup},
            {"prefix_groups", flags_.load.prompts.prefix_groups},
            {"prefix_tokens", flags_.load.prompts.prefix_tokens},
            {"temperature", flags_.load.temperature},
            {"ignore_eos", flags_.load.ignore_eos},
            {"seed", flags_.load.seed}};
  }

  const Flags& flags_;
  Session& session_;
  load::PromptSource prompts_;
  OfflineRun run_;
  int64_t made_ = 0;
};

absl::StatusOr<std::vector<GenerateRequest>> LatencyBench::MakeBatch() {
  std::vector<GenerateRequest> batch;
  for (int64_t i = 0; i < flags_.batch; ++i) {
    const load::Conversation words = prompts_.Next(nullptr);
    std::vector<TokenId> prompt;
    for (const load::Message& message : words.messages) {
      const bool shared = message.role == "system";
      ASSIGN_OR_RETURN(
          const std::vector<TokenId> tokens,
          session_.TokensOf(message.content,
                            shared ? flags_.load.prompts.prefix_tokens : flags_.prompt_tokens,
                            prompt.empty()));
      prompt.insert(prompt.end(), tokens.begin(), tokens.end());
    }
    batch.push_back(session_.Request(flags_, made_++, flags_.output_tokens));
    batch.back().prompt = std::move(prompt);
  }
  return batch;
}

absl::Status LatencyBench::Iterate(int64_t iterations, load::Measurement& measured,
                                   load::Histogram* batch) {
  for (int64_t i = 0; i < iterations && !run_.interrupted(); ++i) {
    ASSIGN_OR_RETURN(std::vector<GenerateRequest> requests, MakeBatch());
    size_t next = 0;
    const int64_t begin_ns = load::NowNs();
    run_.Run(
        [&]() -> std::optional<GenerateRequest> {
          if (next == requests.size()) return std::nullopt;
          return std::move(requests[next++]);
        },
        measured);
    if (batch != nullptr && !run_.interrupted()) batch->Record(run_.end_ns() - begin_ns);
  }
  measured.CutWindow(load::NowNs());
  return absl::OkStatus();
}

absl::StatusOr<json::object> RunLatency(Flags& flags, Session& session) {
  flags.load.prompts.prompt_tokens = std::to_string(flags.prompt_tokens);
  ASSIGN_OR_RETURN(load::PromptSource prompts, load::PromptSource::Create(flags.load.prompts));
  return LatencyBench(flags, session, std::move(prompts)).Run();
}

void SetPrompt(const load::Conversation& conversation, bool chat, GenerateRequest& request) {
  if (!chat) {
    request.prompt = Text(load::PlainText(conversation));
    return;
  }
  std::vector<ChatMessage> messages;
  messages.reserve(conversation.messages.size());
  for (const load::Message& message : conversation.messages)
    messages.push_back({message.role, Text(message.content)});
  request.prompt = std::move(messages);
}

absl::StatusOr<json::object> RunThroughput(Flags& flags, Session& session) {
  const load::LoadOptions& o = flags.load;
  ASSIGN_OR_RETURN(load::PromptSource prompts, load::PromptSource::Create(o.prompts));
  OfflineRun run(session.service(), session.queue(),
                 session.Hooks(!flags.quiet && isatty(STDERR_FILENO) != 0));
  int64_t made = 0;
  const OfflineRun::Source next = [&]() -> std::optional<GenerateRequest> {
    if (made == o.requests) return std::nullopt;
    const load::Conversation conversation = prompts.Next(nullptr);
    GenerateRequest request = session.Request(flags, made++, conversation.max_tokens);
    SetPrompt(conversation, o.endpoint == "chat", request);
    return request;
  };
  session.Begin();
  const int64_t now_ns = load::NowNs();
  load::Measurement measured(now_ns, now_ns, INT64_MAX, {});
  run.Run(next, measured);
  measured.CutWindow(run.end_ns());
  session.ClearProgress();
  OfflineFacts facts = session.Facts(run);
  if (run.num_refusals() > 0)
    facts.doubts.push_back(fmt::format(
        "the queue was full {} times; those requests were handed over again", run.num_refusals()));
  return ThroughputResult(facts,
                          {{"requests", o.requests},
                           {"endpoint", o.endpoint},
                           {"prompts", load::PromptsJson(o.prompts)},
                           {"temperature", o.temperature},
                           {"ignore_eos", o.ignore_eos},
                           {"seed", o.seed}},
                          measured);
}

absl::Status Show(const Flags& flags, const json::object& result, const std::string& text) {
  if (flags.json_file != "-") fmt::print("{}", text);
  if (flags.json_file.empty()) return absl::OkStatus();
  const std::string all = json::serialize(result) + "\n";
  if (flags.json_file != "-") return load::WriteFile(flags.json_file, all);
  fmt::print("{}", all);
  return absl::OkStatus();
}

using Bench = absl::StatusOr<json::object> (*)(Flags&, Session&);
using Printer = std::string (*)(const json::object&);

// Whether every request was answered.
absl::StatusOr<bool> RunBench(const CLI::App& app, Flags& flags, Bench bench, Printer printer) {
  flags.load.prompts.seed = flags.load.seed + 1;
  ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, Session::Start(flags, app));
  ASSIGN_OR_RETURN(const json::object result, bench(flags, *session));
  RETURN_IF_ERROR(Show(flags, result, printer(result)));
  return result.at("errors").as_object().empty();
}

BenchCommand Command(CLI::App* app, const std::shared_ptr<Flags>& flags, Bench bench,
                     Printer printer) {
  return {app, [=] {
            const auto answered = RunBench(*app, *flags, bench, printer);
            if (answered.ok()) return *answered ? 0 : 2;
            fmt::print(stderr, "sluice: {}\n", std::string(answered.status().message()));
            return 1;
          }};
}

}  // namespace

BenchCommand AddBenchLatency(CLI::App& bench) {
  CLI::App* app = bench.add_subcommand("latency", "Time a fixed batch on a model in this process");
  auto flags = std::make_shared<Flags>();  // owners: CLI11's options and `run`
  const auto tokens = CLI::Range(int64_t{1}, load::Lengths::kMax);
  app->add_option("--batch", flags->batch, "Requests handed over together (1)")
      ->check(CLI::Range(1, 65536));
  app->add_option("--prompt-tokens", flags->prompt_tokens, "Exactly so many (128)")->check(tokens);
  app->add_option("--output-tokens", flags->output_tokens, "Likewise (64)")->check(tokens);
  app->add_option("--iterations", flags->iterations, "Measured (10)")
      ->check(CLI::Range(1, 1'000'000));
  app->add_option("--warmup", flags->warmup, "Iterations before those (2)")
      ->check(CLI::Range(0, 1'000'000));
  AddAnswerFlags(app, flags->load);
  AddCommonFlags(app, *flags);
  return Command(app, flags, RunLatency, LatencyText);
}

BenchCommand AddBenchThroughput(CLI::App& bench) {
  CLI::App* app =
      bench.add_subcommand("throughput", "Hand many requests at once to a model in this process");
  auto flags = std::make_shared<Flags>();  // owners: CLI11's options and `run`
  flags->load.requests = 200;
  app->add_option("--requests", flags->load.requests, "All at once (200)")
      ->check(CLI::Range(1, 10'000'000));
  AddPromptFlags(app, flags->load);
  AddAnswerFlags(app, flags->load);
  AddCommonFlags(app, *flags);
  return Command(app, flags, RunThroughput, ThroughputText);
}

}  // namespace sluice
