#include "http/embed_request.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "base/errors.h"
#include "http/json_fields.h"
#include "http/openai_request.h"

namespace sluice {
namespace {

namespace json = boost::json;

std::string ToString(const json::string& s) { return {s.data(), s.size()}; }

void ReadModel(JsonFields& fields, std::string& model) {
  const json::string* name = fields.String("model");
  if (name == nullptr || name->empty()) return fields.Refuse("model", "model is required");
  model = ToString(*name);
}

std::optional<std::vector<TokenId>> ReadTokens(const json::array& array) {
  std::vector<TokenId> ids;
  ids.reserve(array.size());
  for (const json::value& item : array) {
    const std::optional<int64_t> id = AsInteger(item);
    if (!id || *id < 0 || *id > std::numeric_limits<TokenId>::max()) return std::nullopt;
    ids.push_back(static_cast<TokenId>(*id));
  }
  return ids;
}

// A string, an array of strings, of token ids, or of arrays of token ids.
void ReadInput(JsonFields& fields, EmbedRequest& embed) {
  constexpr std::string_view kForms =
      "input must be a string, token ids, or an array of one of these, and not be empty";
  const json::value* input = fields.Find("input");
  if (input == nullptr) return fields.Refuse("input", "input is required");
  if (input->is_string()) {
    embed.inputs.emplace_back(Text(ToString(input->get_string())));
    return;
  }
  const json::array* array = input->if_array();
  if (array == nullptr || array->empty()) return fields.Refuse("input", kForms);
  if (array->front().is_number()) {
    std::optional<std::vector<TokenId>> tokens = ReadTokens(*array);
    if (!tokens) return fields.Refuse("input", "input has an element that is not a token id");
    embed.inputs.emplace_back(*std::move(tokens));
    return;
  }
  for (size_t i = 0; i < array->size(); ++i) {
    const json::value& item = (*array)[i];
    std::optional<std::vector<TokenId>> tokens;
    if (item.is_array()) tokens = ReadTokens(item.get_array());
    if (item.is_string()) {
      embed.inputs.emplace_back(Text(ToString(item.get_string())));
    } else if (tokens) {
      embed.inputs.emplace_back(*std::move(tokens));
    } else {
      return fields.Refuse("input",
                           fmt::format("input[{}] is neither a string nor a list of token ids", i));
    }
  }
}

void ReadEmbeddings(JsonFields& fields, HttpEmbed& request) {
  ReadInput(fields, request.embed);
  request.embed.dimensions = fields.Integer("dimensions");
  request.embed.normalise = fields.Boolean("normalize");
  if (const json::string* format = fields.String("encoding_format")) {
    request.base64 = *format == "base64";
    if (!request.base64 && *format != "float")
      fields.Refuse("encoding_format", "encoding_format must be float or base64");
  }
}

// A string, or an object with "text", as rerankers take documents.
std::optional<Text> ReadDocument(const json::value& value) {
  if (value.is_string()) return Text(ToString(value.get_string()));
  if (!value.is_object()) return std::nullopt;
  const json::value* text = value.get_object().if_contains("text");
  if (text == nullptr || !text->is_string()) return std::nullopt;
  return Text(ToString(text->get_string()));
}

void ReadRerank(JsonFields& fields, HttpEmbed& request) {
  request.input_name = "documents";
  const json::string* query = fields.String("query");
  if (query == nullptr) return fields.Refuse("query", "query is required");
  const json::array* documents = fields.Array("documents");
  if (documents == nullptr || documents->empty())
    return fields.Refuse("documents", "documents must be an array of at least one document");
  for (size_t i = 0; i < documents->size(); ++i) {
    std::optional<Text> document = ReadDocument((*documents)[i]);
    if (!document) {
      return fields.Refuse(
          "documents", fmt::format("documents[{}] is neither a string nor an object with text", i));
    }
    request.embed.inputs.emplace_back(TextPair{Text(ToString(*query)), *std::move(document)});
  }
  request.top_n = fields.IntegerIn("top_n", 0, std::numeric_limits<int64_t>::max());
  request.return_documents = fields.Boolean("return_documents").value_or(true);
}

std::vector<Text> ReadTexts(JsonFields& fields, std::string_view name) {
  std::vector<Text> texts;
  const json::value* value = fields.Find(name);
  if (value == nullptr) {
    fields.Refuse(name, fmt::format("{} is required", name));
    return texts;
  }
  if (value->is_string()) {
    texts.emplace_back(ToString(value->get_string()));
    return texts;
  }
  const json::array* array = value->if_array();
  for (size_t i = 0; array != nullptr && i < array->size(); ++i) {
    if (!(*array)[i].is_string()) {
      fields.Refuse(name, fmt::format("{}[{}] must be a string", name, i));
      return texts;
    }
    texts.emplace_back(ToString((*array)[i].get_string()));
  }
  if (texts.empty()) fields.Refuse(name, fmt::format("{} must be a string or strings", name));
  return texts;
}

// One text against many, or as many against as many.
void ReadScore(JsonFields& fields, HttpEmbed& request) {
  request.input_name = "text_2";
  const std::vector<Text> first = ReadTexts(fields, "text_1");
  std::vector<Text> second = ReadTexts(fields, "text_2");
  if (!fields.ok()) return;
  if (first.size() != 1 && first.size() != second.size()) {
    return fields.Refuse("text_1",
                         fmt::format("text_1 has {} texts and text_2 has {}; text_1 must have one "
                                     "or as many",
                                     first.size(), second.size()));
  }
  for (size_t i = 0; i < second.size(); ++i) {
    const Text& text = first.size() == 1 ? first.front() : first[i];
    request.embed.inputs.emplace_back(TextPair{text, std::move(second[i])});
  }
}

}  // namespace

absl::StatusOr<HttpEmbed> ParseEmbed(EmbedEndpoint endpoint, std::string_view body,
                                     int max_json_depth) {
  HttpEmbed request;
  request.endpoint = endpoint;
  const auto read = [&](const json::object& object) {
    JsonFields fields(object);
    ReadModel(fields, request.embed.model);
    if (endpoint == EmbedEndpoint::kEmbeddings) ReadEmbeddings(fields, request);
    if (endpoint == EmbedEndpoint::kRerank) ReadRerank(fields, request);
    if (endpoint == EmbedEndpoint::kScore) ReadScore(fields, request);
    constexpr int32_t kMaxPriority = std::numeric_limits<int32_t>::max();
    request.embed.priority =
        static_cast<int32_t>(fields.IntegerIn("priority", -kMaxPriority, kMaxPriority).value_or(0));
    if (const json::string* id = fields.String("request_id")) {
      request.embed.request_id = ToString(*id);
      if (!IsValidId(request.embed.request_id)) {
        fields.Refuse(
            "request_id",
            fmt::format("request_id must be 1 to {} visible ASCII characters", kMaxRequestIdBytes));
      }
    }
    request.embed.truncate_tokens = fields.Integer("truncate_prompt_tokens");
    return fields.status();
  };
  absl::Status status = ReadJsonObject(body, max_json_depth, read);
  if (!status.ok()) return status;
  return request;
}

absl::Status RenameParam(const absl::Status& status, const HttpEmbed& request) {
  return ErrorParam(status) == "input" ? WithParam(status, request.input_name) : status;
}

}  // namespace sluice
