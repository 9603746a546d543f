// From the bodies of /v1/embeddings (OpenAI's), /v1/rerank (Jina's and Cohere's) and /v1/score to
// what a Service understands, and back. As in openai_request.h unknown fields are ignored, and
// those that would change the answer and are not there are refused by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sluice/types.h"

namespace sluice {

enum class EmbedEndpoint : uint8_t { kEmbeddings, kRerank, kScore };

struct HttpEmbed {
  EmbedEndpoint endpoint = EmbedEndpoint::kEmbeddings;
  EmbedRequest embed;  // tenant, deadline and ids are still to be filled in
  bool base64 = false;
  std::optional<int64_t> top_n;   // rerank: all
  bool return_documents = false;  // rerank
  // The client's name for what the Service calls "input".
  std::string_view input_name = "input";
};

// Errors: InvalidArgument with `param`.
absl::StatusOr<HttpEmbed> ParseEmbed(EmbedEndpoint endpoint, std::string_view body,
                                     int max_json_depth);

// What an answer is made of: one event an input.
struct EmbedAnswer {
  std::string_view model;
  std::string_view id;  // of rerank and score
  int64_t created = 0;
  std::vector<VectorEvent> vectors;
  Usage usage;
};

// With the documents of `request`, where they were asked for.
[[nodiscard]] std::string EmbedJson(const HttpEmbed& request, EmbedAnswer answer);

// The name under which the client sent a field that a Service's refusal names.
[[nodiscard]] absl::Status RenameParam(const absl::Status& status, const HttpEmbed& request);

}  // namespace sluice
