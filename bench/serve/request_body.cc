#include "bench/serve/request_body.h"

#include <fmt/format.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <iterator>
#include <string_view>

namespace sluice::load {
namespace {

namespace json = boost::json;

std::string Quoted(std::string_view text) { return json::serialize(json::string(text)); }

std::string Messages(const Conversation& conversation) {
  std::string list = "[";
  for (const Message& message : conversation.messages) {
    if (list.size() > 1) list.push_back(',');
    list += "{\"role\":" + Quoted(message.role) + ",\"content\":" + Quoted(message.content) + "}";
  }
  return list + "]";
}

}  // namespace

absl::StatusOr<std::string> ExtraFields(const std::string& text) {
  if (text.empty()) return std::string();
  json::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object())
    return absl::InvalidArgumentError(fmt::format("extra-body is no JSON object: {}", text));
  std::string fields;
  for (const auto& field : value.get_object())
    fields += "," + Quoted(field.key()) + ":" + json::serialize(field.value());
  return fields;
}

absl::StatusOr<RequestEncoder> OpenAiEncoder(const LoadOptions& options, const std::string& model) {
  auto extra = ExtraFields(options.extra_body);
  if (!extra.ok()) return extra.status();
  std::string fixed = fmt::format(
      "{{\"model\":{},\"stream\":true,\"stream_options\":{{\"include_usage\":true}},"
      "\"temperature\":{}",
      Quoted(model), options.temperature);
  if (options.ignore_eos) fixed += ",\"ignore_eos\":true";
  fixed += *extra;
  const bool chat = options.endpoint == "chat", seeded = options.seed_each;
  return [fixed, chat, seeded](const Exchange& exchange) {
    std::string body = fixed;
    if (seeded) fmt::format_to(std::back_inserter(body), ",\"seed\":{}", exchange.seed);
    fmt::format_to(std::back_inserter(body), ",\"max_tokens\":{},",
                   exchange.conversation.max_tokens);
    body += chat ? "\"messages\":" + Messages(exchange.conversation)
                 : "\"prompt\":" + Quoted(PlainText(exchange.conversation));
    return body + "}";
  };
}

}  // namespace sluice::load
