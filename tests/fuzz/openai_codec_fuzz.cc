// Any bytes as a body of each endpoint, and as an event's text. Checks beside not crashing: a
// refusal is the client's fault (400) and its error object is valid JSON; whatever text comes out
// of a model, a stream of it is valid JSON in valid UTF-8, and says the same as the whole answer.
#include <boost/json/parse.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/errors.h"
#include "base/utf8.h"
#include "http/embed_request.h"
#include "http/json_text.h"
#include "http/openai_request.h"
#include "http/openai_response.h"

namespace {

constexpr int kMaxDepth = 32;

void Check(bool condition) {
  if (!condition) std::abort();
}

boost::json::value MustParse(std::string_view text) {
  boost::json::error_code error;
  boost::json::value value = boost::json::parse({text.data(), text.size()}, error);
  Check(!error);
  return value;
}

void CheckRefusal(const absl::Status& status) {
  if (status.ok()) return;
  Check(sluice::ToWireError(status).http_status == 400);
  MustParse(sluice::ErrorJson(status));
}

// The events' contents, joined.
std::string JoinedDeltas(std::string_view stream) {
  std::string text;
  while (!stream.empty()) {
    const size_t end = stream.find("\n\n");
    Check(end != std::string_view::npos && stream.starts_with("data: "));
    const boost::json::value chunk = MustParse(stream.substr(6, end - 6));
    const auto& delta = chunk.at("choices").at(0).at("delta").as_object();
    if (const auto* content = delta.if_contains("content")) {
      text.append(content->as_string().data(), content->as_string().size());
    }
    stream.remove_prefix(end + 2);
  }
  return text;
}

void CheckAnswer(std::string_view bytes) {
  sluice::AnswerFacts facts;
  facts.id = "id";
  facts.model = std::string(bytes.substr(0, 8));
  facts.logprobs = true;
  sluice::StreamedAnswer streamed;
  sluice::WholeAnswer whole;
  streamed.Start(facts);
  whole.Start(facts);
  std::string stream;
  const size_t cut = bytes.size() / 2;
  for (const std::string_view part : {bytes.substr(0, cut), bytes.substr(cut)}) {
    sluice::TokenEvent event;
    event.content = sluice::Text(std::string(part));
    sluice::TokenLogprob logprob;
    logprob.bytes = event.content;
    event.logprobs = {logprob};
    event.tokens = {1};
    streamed.Add(event);
    whole.Add(event);
    streamed.Take(stream);
  }
  Check(sluice::IsValidUtf8(stream));
  const boost::json::value answer = MustParse(whole.Json({}));
  const auto& message = answer.at("choices").at(0).at("message").at("content").as_string();
  Check(JoinedDeltas(stream) == std::string_view(message.data(), message.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const std::string copy(body);  // so that ASan sees its end
  CheckRefusal(sluice::ParseGenerate(sluice::Endpoint::kChat, copy, kMaxDepth).status());
  CheckRefusal(sluice::ParseGenerate(sluice::Endpoint::kCompletion, copy, kMaxDepth).status());
  for (const auto endpoint : {sluice::EmbedEndpoint::kEmbeddings, sluice::EmbedEndpoint::kRerank,
                              sluice::EmbedEndpoint::kScore})
    CheckRefusal(sluice::ParseEmbed(endpoint, copy, kMaxDepth).status());
  CheckRefusal(sluice::ParseTokenize(copy, kMaxDepth).status());
  CheckRefusal(sluice::ParseDetokenize(copy, kMaxDepth).status());
  CheckAnswer(body);
  return 0;
}
