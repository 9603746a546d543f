#include "apps/load_flags.h"

namespace sluice {

void AddPromptFlags(CLI::App* app, load::LoadOptions& options) {
  app->add_option("--endpoint", options.endpoint, "chat or completions")
      ->check(CLI::IsMember({"chat", "completions"}));
  load::PromptOptions& prompts = options.prompts;
  app->add_option("--prompts", prompts.source, "synthetic, jsonl or sharegpt");
  app->add_option("--prompt-file", prompts.file, "Of jsonl and sharegpt");
  app->add_option("--prompt-tokens", prompts.prompt_tokens,
                  "N, uniform:LOW,HIGH, normal:MEAN,SD or lognormal:MEDIAN,SIGMA (default 128)");
  app->add_option("--output-tokens", prompts.output_tokens, "Likewise; default the file's, or 128");
}

void AddPrefixFlags(CLI::App* app, load::PromptOptions& prompts) {
  app->add_option("--prefix-groups", prompts.prefix_groups,
                  "Prompts begin with one of so many system prompts")
      ->check(CLI::Range(0, 1'000'000));
  app->add_option("--prefix-tokens", prompts.prefix_tokens, "Length of those (default 512)")
      ->check(CLI::Range(1, 1'000'000));
}

void AddAnswerFlags(CLI::App* app, load::LoadOptions& options) {
  app->add_option("--temperature", options.temperature, "Default 0")->check(CLI::Range(0.0, 2.0));
  app->add_flag_callback(
      "--no-ignore-eos", [&options] { options.ignore_eos = false; }, "Let answers end early");
  app->add_flag_callback("--no-seed", [&options] { options.seed_each = false; }, "Send no seed");
  app->add_option("--seed", options.seed, "Of prompts, arrivals and the requests' own seeds")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 40));
}

}  // namespace sluice
