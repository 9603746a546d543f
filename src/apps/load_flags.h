// Flags that every `bench` command which makes requests has.
#pragma once

#include <CLI/CLI.hpp>

#include "bench/serve/options.h"

namespace sluice {

// What requests ask: --endpoint, --prompts, --prompt-file, --prompt-tokens, --output-tokens.
void AddPromptFlags(CLI::App* app, load::LoadOptions& options);
// --prefix-groups and --prefix-tokens.
void AddPrefixFlags(CLI::App* app, load::PromptOptions& prompts);
// How answers are made: --temperature, --no-ignore-eos, --no-seed, --seed.
void AddAnswerFlags(CLI::App* app, load::LoadOptions& options);

}  // namespace sluice
