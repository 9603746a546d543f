// The one program: subcommands serve, chat, bench, model inspect and model convert.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <optional>
#include <string>
#include <thread>

#include "apps/bench.h"
#include "apps/chat.h"
#include "apps/config.h"
#include "apps/config_flags.h"
#include "apps/create.h"
#include "apps/serve.h"
#include "apps/settings.h"
#include "base/logging.h"
#include "model/convert.h"
#include "model/inspect.h"
#include "model/model_file.h"
#include "model/quantise.h"
#include "tokenizer/pre_tokenizer.h"

namespace sluice {
namespace {

int Fail(const absl::Status& status) {
  fmt::print(stderr, "sluice: {}\n", std::string(status.message()));
  return 1;
}

int Inspect(const std::string& file) {
  const auto model = ModelFile::Open(file);
  if (!model.ok()) return Fail(model.status());
  const Config config;
  fmt::print("{}", InspectModel(*model, config.max_step_tokens, config.max_rows));
  return 0;
}

int Convert(const std::string& in, const std::string& out, const std::string& quantize,
            int threads) {
  const auto model = ModelFile::Open(in);
  if (!model.ok()) return Fail(model.status());
  ConvertOptions options{.quantise = ParseQuantisedType(quantize),
                         .threads = threads,
                         .pre_tokenizer_name = NameOfPreTokenizer};
  int64_t shown = -1;
  options.progress = [&](int64_t done, int64_t all) {
    const int64_t percent = done * 100 / all;
    if (percent == shown || isatty(STDERR_FILENO) == 0) return;
    shown = percent;
    fmt::print(stderr, "\r{:3} % of {} MiB", percent, all >> 20);
  };
  const absl::Status made = ConvertToGguf(*model, out, options);
  if (shown >= 0) fmt::print(stderr, "\n");
  return made.ok() ? 0 : Fail(made);
}

int Main(int argc, char** argv) {
  CLI::App app("Sluice: an LLM inference server", "sluice");
  app.set_version_flag("--version", Version());
  app.require_subcommand(1);
  ConfigFlags serve_flags, chat_flags;
  bool check_config = false;
  CLI::App* serve = app.add_subcommand("serve", "Serve a model over HTTP and gRPC");
  serve_flags.AddTo(serve);
  serve->add_flag("--check-config", check_config, "Check all settings and exit");
  CLI::App* chat = app.add_subcommand("chat", "Chat with a model in the terminal");
  chat_flags.AddTo(chat);
  CLI::App* model = app.add_subcommand("model", "Look at models and convert them");
  model->require_subcommand(1);
  std::string inspect_file;
  CLI::App* inspect = model->add_subcommand("inspect", "Print what a model file holds and needs");
  inspect->add_option("model", inspect_file, "GGUF file or Hugging Face folder")->required();
  std::string convert_in, convert_out, convert_type;
  int convert_threads = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1U));
  CLI::App* convert = model->add_subcommand("convert", "Write a model as one GGUF file");
  convert->add_option("in", convert_in, "GGUF file or Hugging Face folder")->required();
  convert->add_option("out", convert_out, "GGUF file to write; replaced if it is there")
      ->required();
  convert->add_option("--quantize", convert_type, "Round float matrices to this type")
      ->check(CLI::IsMember({"q8_0", "q4_0", "q4_1"}));
  convert->add_option("--threads", convert_threads, "Threads that round")
      ->check(CLI::Range(1, 256));
  const BenchCommands bench(app);
  CLI::App* config_doc = app.add_subcommand("config-doc", "Print docs/configuration.md");
  CLI::App* metrics_doc =
      app.add_subcommand("metrics-doc", "Print the table of docs/api/metrics.md");
  CLI11_PARSE(app, argc, argv);

  if (*inspect) return Inspect(inspect_file);
  if (*convert) return Convert(convert_in, convert_out, convert_type, convert_threads);
  if (*config_doc) {
    fmt::print("{}", ConfigurationDocument());
    return 0;
  }
  if (*metrics_doc) {
    fmt::print("{}", Metrics::DocumentationTable());
    return 0;
  }
  if (const std::optional<int> status = bench.Run()) return *status;
  auto config = *serve ? serve_flags.Load(*serve) : chat_flags.Load(*chat);
  if (!config.ok()) return Fail(config.status());
  if (*chat && chat->count("--log-level") == 0)
    config->log_level = "warn";  // the conversation is the output
  const absl::Status logging = SetUpLogging(config->log_level, config->log_format);
  if (!logging.ok()) return Fail(logging);
  if (*chat) return Chat(*config);
  return check_config ? CheckConfig(*config) : Serve(*config);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  try {
    return sluice::Main(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "sluice: {}\n", error.what());
    return 1;
  }
}
