#include "bench/serve/server_facts.h"

#include <fmt/format.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <vector>

#include "base/status_macros.h"
#include "bench/serve/http_once.h"
#include "executor/script_text.h"

namespace sluice::load {
namespace {

namespace json = boost::json;

constexpr absl::Duration kPatience = absl::Seconds(20);

// The object that `path` answers with 200.
absl::StatusOr<json::object> Ask(const LoadOptions& options, const Endpoint& endpoint,
                                 std::string_view path, const std::string& body) {
  ASSIGN_OR_RETURN(const HttpAnswer answer,
                   HttpOnce(endpoint, path, body, options.api_key, kPatience));
  json::error_code error;
  const json::value value = json::parse(answer.body, error);
  if (answer.status != 200 || error || !value.is_object())
    return absl::FailedPreconditionError(fmt::format("{}{} answered {}: {}", options.url, path,
                                                     answer.status, answer.body.substr(0, 200)));
  return value.get_object();
}

// The /v1 that stands before the routes, where the URL has it or none.
std::string Base(const Endpoint& endpoint) {
  std::string base = endpoint.path;
  for (const std::string_view tail : {"/chat/completions", "/completions"})
    if (base.ends_with(tail)) base.resize(base.size() - tail.size());
  return base.empty() ? "/v1" : base;
}

}  // namespace

absl::StatusOr<std::string> FindModel(const LoadOptions& options, const Endpoint& endpoint) {
  if (!options.model.empty()) return options.model;
  ASSIGN_OR_RETURN(const json::object object,
                   Ask(options, endpoint, Base(endpoint) + "/models", ""));
  const json::value* models = object.if_contains("data");
  if (models != nullptr && models->is_array() && !models->get_array().empty()) {
    const json::object* first = models->get_array().front().if_object();
    const json::value* id = first == nullptr ? nullptr : first->if_contains("id");
    if (id != nullptr && id->is_string()) return std::string(id->get_string());
  }
  return absl::FailedPreconditionError(fmt::format("{} serves no model", options.url));
}

absl::StatusOr<Script> FetchScript(const LoadOptions& options, const Endpoint& endpoint,
                                   const std::string& model) {
  const json::object question = {{"model", model},
                                 {"prompt", kScriptText},
                                 {"add_special_tokens", false},
                                 {"return_token_strs", true}};
  ASSIGN_OR_RETURN(const json::object object,
                   Ask(options, endpoint, "/tokenize", json::serialize(question)));
  const json::value* list = object.if_contains("token_strs");
  std::vector<std::string> pieces;
  if (list != nullptr && list->is_array()) {
    for (const json::value& piece : list->get_array())
      if (piece.is_string()) pieces.emplace_back(piece.get_string());
  }
  if (pieces.empty())
    return absl::FailedPreconditionError(fmt::format(
        "{}/tokenize gave no token_strs, so there is no script to check against", options.url));
  return Script(pieces);
}

}  // namespace sluice::load
