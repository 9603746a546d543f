// What is asked: conversations, made up or read from files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/serve/arrivals.h"
#include "bench/serve/random.h"

namespace sluice::load {

struct Message {
  std::string role;  // system, user, assistant
  std::string content;
};

// One or more turns with a model. A request asks `messages`; after its answer the next of
// `later_turns` is asked on top.
struct Conversation {
  std::vector<Message> messages;
  std::vector<std::string> later_turns;  // in order
  int64_t max_tokens = 128;              // of each answer
};

// A distribution of lengths: "128", "uniform:64,256", "normal:128,32" (mean, standard deviation) or
// "lognormal:128,0.8" (median, sigma of the logarithm). Values are whole, from 1 to 1,000,000.
class Lengths {
 public:
  // Errors: InvalidArgument with the text.
  static absl::StatusOr<Lengths> Parse(std::string_view text);
  [[nodiscard]] int64_t Draw(Random& random) const;
  static constexpr int64_t kMax = 1'000'000;

 private:
  enum class Kind { kFixed, kUniform, kNormal, kLogNormal };
  Kind kind_ = Kind::kFixed;
  double a_ = 1, b_ = 0;
};

struct PromptOptions {
  std::string source = "synthetic";   // synthetic, jsonl, sharegpt
  std::string file;                   // of jsonl and sharegpt
  std::string prompt_tokens = "128";  // Lengths; synthetic
  std::string output_tokens;          // Lengths; empty: what the file says, else 128
  int64_t turns = 1;                  // synthetic: of each conversation; files: at most
  int64_t prefix_groups = 0;          // synthetic: prompts that share one of so many beginnings
  int64_t prefix_tokens = 512;        // the length of such a beginning
  uint64_t seed = 0;
};

// An endless source of conversations; files are read once and begun again at their end.
class PromptSource {
 public:
  // Errors: InvalidArgument for an unknown source or distribution, a file without a usable line;
  // NotFound for a file that is not there.
  static absl::StatusOr<PromptSource> Create(const PromptOptions& options);

  // `trace`: lengths that win over the options' where they are above 0; may be null.
  Conversation Next(const TraceArrival* trace);

 private:
  PromptSource(PromptOptions options, Lengths prompt, Lengths output)
      : options_(std::move(options)), prompt_(prompt), output_(output), random_(options_.seed) {}
  Conversation Synthetic(const TraceArrival* trace);

  PromptOptions options_;
  Lengths prompt_, output_;
  Random random_;
  std::vector<Conversation> from_file_;
  size_t next_ = 0;
};

// The messages one after the other: completions have no roles.
std::string PlainText(const Conversation& conversation);

// `count` common English words, about one token each in any vocabulary.
std::string Words(int64_t count, Random& random);

}  // namespace sluice::load
