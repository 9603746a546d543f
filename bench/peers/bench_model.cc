// Runs the model as the server does (scheduler, executor, kernels, sampling; no sockets) for
// bench/peers/peers.py. One command a line on stdin, one JSON answer a line on stdout:
//   tokenize TEXT        the text's token ids, behind the token that begins a text if there is one
//   greedy N ID...       the N greedy tokens after a prompt
//   prefill N            seconds from a prompt of N tokens to its first output token
//   decode R C N         R rows with prompts of C tokens each, N more tokens a row: seconds of the
//   decode steps alone
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "executor/model_executor.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/isa.h"
#include "model/model_file.h"
#include "scheduler/scheduler.h"
#include "tokenizer/tokenizer.h"

namespace sluice {
namespace {

constexpr int32_t kMaxRows = 32;
constexpr int32_t kMaxLen = 4096;
constexpr int32_t kBlockTokens = 16;
constexpr int32_t kBlocks = kMaxRows * 1024 / kBlockTokens;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The same tokens as peers.py feeds to the other engines.
std::vector<TokenId> SyntheticPrompt(int row, int n) {
  std::vector<TokenId> tokens;
  uint32_t state = 12345 + 7919 * static_cast<uint32_t>(row);
  for (int i = 0; i < n; i++) {
    state = state * 1664525 + 1013904223;
    tokens.push_back(static_cast<TokenId>(100 + (state >> 8) % 40000));
  }
  return tokens;
}

struct Run {
  std::vector<std::vector<TokenId>> outputs;
  double prefill_seconds = 0;  // until every row has its first token
  double decode_seconds = 0;   // from then on
  int64_t decode_tokens = 0;   // tokens that came in that time
};

class Bench {
 public:
  Bench(const TokenizerData& data, std::unique_ptr<Tokenizer> tokenizer,
        std::unique_ptr<Executor> executor, int max_step_tokens)
      : bos_(data.add_bos ? data.bos : -1),
        tokenizer_(std::move(tokenizer)),
        executor_(std::move(executor)),
        scheduler_({.max_rows = kMaxRows,
                    .max_step_tokens = max_step_tokens,
                    .num_kv_blocks = kBlocks,
                    .max_model_len = kMaxLen,
                    .prefix_cache = false}) {}

  [[nodiscard]] std::vector<TokenId> Tokenize(std::string text) const {
    const PromptSegment segment{.text = Text(std::move(text)), .special_allowed = true};
    std::vector<TokenId> tokens = tokenizer_->Encode({&segment, 1});
    if (bos_ >= 0) tokens.insert(tokens.begin(), bos_);
    return tokens;
  }

  absl::StatusOr<Run> Generate(std::vector<std::vector<TokenId>> prompts, int num_output_tokens) {
    Run run;
    run.outputs.resize(prompts.size());
    const SequenceId first = next_;
    auto sampling = std::make_shared<const SamplingParams>(SamplingParams{.temperature = 0});
    for (auto& prompt : prompts) {
      SequenceSpec spec;
      spec.id = next_++;
      spec.sampling = sampling;
      spec.prompt_tokens = std::move(prompt);
      spec.max_output_tokens = num_output_tokens;
      if (absl::Status added = scheduler_.Add(std::move(spec)); !added.ok()) return added;
    }
    size_t started = 0;
    const double begin = Now();
    double all_started = 0;
    while (scheduler_.HasSequences()) {
      ScheduleResult next = scheduler_.Schedule(absl::Now());
      const StepId step = next.plan.step;
      if (absl::Status submitted = executor_->Submit(std::move(next.plan)); !submitted.ok())
        return submitted;
      auto result = executor_->Wait(step);
      if (!result.ok()) return result.status();
      for (const SequenceUpdate& update : scheduler_.Apply(*std::move(result))) {
        auto& output = run.outputs[update.sequence - first];
        if (output.empty() && !update.tokens.empty()) started++;
        for (const SampledToken& token : update.tokens) output.push_back(token.token);
        if (all_started > 0) run.decode_tokens += static_cast<int64_t>(update.tokens.size());
      }
      if (all_started == 0 && started == run.outputs.size()) all_started = Now();
    }
    run.prefill_seconds = all_started - begin;
    run.decode_seconds = Now() - all_started;
    return run;
  }

 private:
  const TokenId bos_;  // -1: none
  const std::unique_ptr<Tokenizer> tokenizer_;
  const std::unique_ptr<Executor> executor_;
  Scheduler scheduler_;
  SequenceId next_ = 1;
};

absl::StatusOr<std::string> Answer(Bench& bench, const std::string& line) {
  std::istringstream in(line);
  std::string command;
  in >> command;
  if (command == "tokenize") {
    std::string text;
    std::getline(in >> std::ws, text);
    return fmt::format(R"({{"tokens":[{}]}})", fmt::join(bench.Tokenize(std::move(text)), ","));
  }
  if (command == "greedy") {
    int n = 0;
    in >> n;
    std::vector<TokenId> prompt;
    for (TokenId token = 0; in >> token;) prompt.push_back(token);
    auto run = bench.Generate({prompt}, n);
    if (!run.ok()) return run.status();
    return fmt::format(R"({{"tokens":[{}]}})", fmt::join(run->outputs[0], ","));
  }
  int rows = 1, context = 0, n = 1;
  if (command == "prefill") {
    in >> context;
  } else if (command == "decode") {
    in >> rows >> context >> n;
    n++;  // the first one belongs to the prefill
  } else {
    return absl::InvalidArgumentError("unknown command: " + command);
  }
  std::vector<std::vector<TokenId>> prompts;
  for (int row = 0; row < rows; row++) prompts.push_back(SyntheticPrompt(row, context));
  auto run = bench.Generate(std::move(prompts), n);
  if (!run.ok()) return run.status();
  if (command == "prefill")
    return fmt::format(R"({{"seconds":{},"tokens":{}}})", run->prefill_seconds, context);
  return fmt::format(R"({{"seconds":{},"tokens":{}}})", run->decode_seconds, run->decode_tokens);
}

int Main(int argc, char** argv) {
  if (argc < 2 || argc > 5) {
    fmt::print(stderr, "usage: bench_model FILE.gguf [threads [isa [max_step_tokens]]]\n");
    return 2;
  }
  const int threads = argc > 2 ? std::atoi(argv[2]) : 0;
  const int max_step_tokens = argc > 4 ? std::atoi(argv[4]) : 512;
  const auto isa = ParseCpuIsa(argc > 3 ? argv[3] : "auto");
  auto file = ModelFile::Open(argv[1]);
  if (!file.ok() || !isa.ok()) {
    fmt::print(stderr, "{}\n", (file.ok() ? isa.status() : file.status()).ToString());
    return 1;
  }
  auto ops = CreateCpuOps({.isa = *isa, .threads = threads});
  if (!ops.ok()) return 1;
  const TransformerLimits limits{.max_step_tokens = max_step_tokens,
                                 .max_rows = kMaxRows,
                                 .max_model_len = kMaxLen,
                                 .kv_block_tokens = kBlockTokens,
                                 .num_kv_blocks = kBlocks};
  auto executor = ModelExecutor::Create(*file, *std::move(ops), {.limits = limits});
  auto tokenizer = Tokenizer::Create(file->info.tokenizer);
  if (!executor.ok() || !tokenizer.ok()) {
    fmt::print(stderr, "{}\n", (executor.ok() ? tokenizer.status() : executor.status()).ToString());
    return 1;
  }
  Bench bench(file->info.tokenizer, *std::move(tokenizer), *std::move(executor), max_step_tokens);
  fmt::print("{{\"engine\":\"sluice\",\"isa\":\"{}\",\"threads\":{}}}\n", CpuIsaName(*isa),
             threads);
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const auto answer = Answer(bench, line);
    if (!answer.ok()) {
      fmt::print(stderr, "{}\n", answer.status().ToString());
      return 1;
    }
    fmt::print("{}\n", *answer);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
