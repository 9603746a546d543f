#include "bench/serve/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/parse.hpp>
#include <cmath>
#include <fstream>
#include <iterator>
#include <optional>

#include "base/status_macros.h"
#include "bench/serve/text.h"

namespace sluice::load {
namespace {

namespace json = boost::json;

constexpr int64_t kMaxFileBytes = int64_t{4} << 30;
constexpr size_t kMaxConversations = 2'000'000;

constexpr std::array<std::string_view, 64> kWords = {
    "the",  "of",   "and",   "to",    "in",    "is",    "that",  "for",  "it",  "as",   "was",
    "with", "be",   "by",    "on",    "not",   "he",    "his",   "but",  "at",  "are",  "this",
    "have", "from", "or",    "had",   "an",    "they",  "which", "one",  "you", "were", "her",
    "all",  "she",  "there", "would", "their", "we",    "him",   "been", "has", "when", "who",
    "will", "more", "no",    "if",    "out",   "so",    "said",  "what", "up",  "its",  "about",
    "into", "than", "them",  "can",   "only",  "other", "new",   "some", "time"};

const json::string* StringAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr ? nullptr : value->if_string();
}

std::optional<int64_t> TokensAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_int64()) return std::nullopt;
  return std::clamp<int64_t>(value->get_int64(), 1, Lengths::kMax);
}

// {"prompt": "..."} or {"messages": [{"role", "content"}]}, with "max_tokens" if wanted.
std::optional<Conversation> FromJsonLine(const json::object& object) {
  Conversation conversation;
  conversation.max_tokens = TokensAt(object, "max_tokens").value_or(0);
  if (const json::string* prompt = StringAt(object, "prompt"); prompt != nullptr) {
    conversation.messages.push_back({"user", std::string(*prompt)});
    return conversation;
  }
  const json::value* messages = object.if_contains("messages");
  if (messages == nullptr || !messages->is_array()) return std::nullopt;
  for (const json::value& value : messages->get_array()) {
    const json::object* message = value.if_object();
    if (message == nullptr) return std::nullopt;
    const json::string* role = StringAt(*message, "role");
    const json::string* content = StringAt(*message, "content");
    if (role == nullptr || content == nullptr) return std::nullopt;
    conversation.messages.push_back({std::string(*role), std::string(*content)});
  }
  if (conversation.messages.empty()) return std::nullopt;
  return conversation;
}

// {"conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}, ...]}. Only what people
// said is asked; the first answer's length stands for what the model is to give.
std::optional<Conversation> FromShareGpt(const json::object& object) {
  const json::value* turns = object.if_contains("conversations");
  if (turns == nullptr || !turns->is_array()) return std::nullopt;
  Conversation conversation;
  conversation.max_tokens = 0;
  for (const json::value& value : turns->get_array()) {
    const json::object* turn = value.if_object();
    if (turn == nullptr) return std::nullopt;
    const json::string* from = StringAt(*turn, "from");
    const json::string* text = StringAt(*turn, "value");
    if (from == nullptr || text == nullptr) return std::nullopt;
    if (*from == "system" && conversation.messages.empty()) {
      conversation.messages.push_back({"system", std::string(*text)});
    } else if (*from == "human" || *from == "user") {
      conversation.later_turns.emplace_back(*text);
    } else if (conversation.max_tokens == 0 && !conversation.later_turns.empty()) {
      constexpr int64_t kBytesPerToken = 4;  // English, roughly; the tokenizer is not known here
      conversation.max_tokens = std::clamp<int64_t>(
          static_cast<int64_t>(text->size()) / kBytesPerToken, 1, Lengths::kMax);
    }
  }
  if (conversation.later_turns.empty()) return std::nullopt;
  conversation.messages.push_back({"user", conversation.later_turns.front()});
  conversation.later_turns.erase(conversation.later_turns.begin());
  return conversation;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return absl::NotFoundError(fmt::format("prompt file {} cannot be read", path));
  const auto size = static_cast<int64_t>(file.tellg());
  if (size > kMaxFileBytes)
    return absl::InvalidArgumentError(
        fmt::format("{} has {} bytes; at most {} are read", path, size, kMaxFileBytes));
  file.seekg(0);
  std::string text(static_cast<size_t>(size), '\0');
  file.read(text.data(), size);
  return text;
}

absl::StatusOr<std::vector<Conversation>> ReadJsonLines(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::vector<Conversation> all;
  int64_t number = 0;
  for (const std::string_view line : Split(text, '\n')) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    json::error_code error;
    const json::value value = json::parse(line, error);
    std::optional<Conversation> one;
    if (!error && value.is_object()) one = FromJsonLine(value.get_object());
    if (!one)
      return absl::InvalidArgumentError(
          fmt::format("{}:{}: not an object with prompt or messages", path, number));
    if (all.size() == kMaxConversations) break;
    all.push_back(*std::move(one));
  }
  return all;
}

absl::StatusOr<std::vector<Conversation>> ReadShareGpt(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  json::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_array())
    return absl::InvalidArgumentError(fmt::format("{} is no JSON array", path));
  std::vector<Conversation> all;
  for (const json::value& entry : value.get_array()) {
    std::optional<Conversation> one;
    if (entry.is_object()) one = FromShareGpt(entry.get_object());
    if (one && all.size() < kMaxConversations) all.push_back(*std::move(one));
  }
  return all;
}

}  // namespace

absl::StatusOr<Lengths> Lengths::Parse(std::string_view text) {
  Lengths lengths;
  const std::vector<std::string_view> parts = Split(text, ':');
  const std::vector<std::string_view> numbers = Split(parts.back(), ',');
  lengths.a_ = ParseNumber<double>(numbers[0]).value_or(0);
  bool good = lengths.a_ >= 1 && lengths.a_ <= kMax && parts.size() <= 2;
  if (parts.size() == 1) {
    good = good && numbers.size() == 1;
  } else {
    lengths.b_ = numbers.size() == 2 ? ParseNumber<double>(numbers[1]).value_or(-1) : -1;
    good = good && lengths.b_ >= 0 && lengths.b_ <= kMax;
    if (parts[0] == "uniform") {
      lengths.kind_ = Kind::kUniform;
      good = good && lengths.b_ >= lengths.a_;
    } else if (parts[0] == "normal") {
      lengths.kind_ = Kind::kNormal;
    } else if (parts[0] == "lognormal") {
      lengths.kind_ = Kind::kLogNormal;
    } else {
      good = false;
    }
  }
  if (good) return lengths;
  return absl::InvalidArgumentError(fmt::format(
      "lengths \"{}\" are none of N, uniform:LOW,HIGH, normal:MEAN,SD and lognormal:MEDIAN,SIGMA "
      "with numbers from 1 to {}",
      text, kMax));
}

int64_t Lengths::Draw(Random& random) const {
  double value = a_;
  if (kind_ == Kind::kUniform)
    return random.Between(static_cast<int64_t>(a_), static_cast<int64_t>(b_));
  if (kind_ == Kind::kNormal) value = a_ + b_ * random.Normal();
  if (kind_ == Kind::kLogNormal) value = a_ * std::exp(b_ * random.Normal());
  return static_cast<int64_t>(std::clamp(std::round(value), 1.0, static_cast<double>(kMax)));
}

std::string PlainText(const Conversation& conversation) {
  std::string text;
  for (const Message& message : conversation.messages) {
    if (!text.empty()) text.push_back('\n');
    text += message.content;
  }
  return text;
}

std::string Words(int64_t count, Random& random) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0) text.push_back(' ');
    text.append(kWords[random.Next() % kWords.size()]);
  }
  return text;
}

absl::StatusOr<PromptSource> PromptSource::Create(const PromptOptions& options) {
  ASSIGN_OR_RETURN(const Lengths prompt, Lengths::Parse(options.prompt_tokens));
  ASSIGN_OR_RETURN(const Lengths output,
                   Lengths::Parse(options.output_tokens.empty() ? "128" : options.output_tokens));
  PromptSource source(options, prompt, output);
  if (options.source == "synthetic") return source;
  if (options.source == "jsonl") {
    ASSIGN_OR_RETURN(source.from_file_, ReadJsonLines(options.file));
  } else if (options.source == "sharegpt") {
    ASSIGN_OR_RETURN(source.from_file_, ReadShareGpt(options.file));
  } else {
    return absl::InvalidArgumentError(
        fmt::format("prompts \"{}\" are none of synthetic, jsonl and sharegpt", options.source));
  }
  if (source.from_file_.empty())
    return absl::InvalidArgumentError(fmt::format("{} has no conversation", options.file));
  return source;
}

Conversation PromptSource::Synthetic(const TraceArrival* trace) {
  Conversation conversation;
  const int64_t tokens = trace != nullptr && trace->prompt_tokens > 0
                             ? std::min(trace->prompt_tokens, Lengths::kMax)
                             : prompt_.Draw(random_);
  if (options_.prefix_groups > 0) {
    const auto group = random_.Next() % static_cast<uint64_t>(options_.prefix_groups);
    Random prefix((options_.seed << 20) ^ (group + 1));
    conversation.messages.push_back({"system", Words(options_.prefix_tokens, prefix)});
  }
  conversation.messages.push_back({"user", Words(tokens, random_)});
  for (int64_t turn = 1; turn < options_.turns; ++turn)
    conversation.later_turns.push_back(Words(prompt_.Draw(random_), random_));
  conversation.max_tokens = 0;
  return conversation;
}

Conversation PromptSource::Next(const TraceArrival* trace) {
  Conversation conversation;
  if (from_file_.empty()) {
    conversation = Synthetic(trace);
  } else {
    conversation = from_file_[next_++ % from_file_.size()];
    const auto later = static_cast<size_t>(options_.turns - 1);
    if (conversation.later_turns.size() > later) conversation.later_turns.resize(later);
  }
  if (trace != nullptr && trace->output_tokens > 0) {
    conversation.max_tokens = std::min(trace->output_tokens, Lengths::kMax);
  } else if (!options_.output_tokens.empty() || conversation.max_tokens == 0) {
    conversation.max_tokens = output_.Draw(random_);
  }
  return conversation;
}

}  // namespace sluice::load
