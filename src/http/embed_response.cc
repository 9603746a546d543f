// The answers of the routes of embed_request.h.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <variant>

#include "http/embed_request.h"
#include "http/json_text.h"

namespace sluice {
namespace {

// Of the little-endian bytes of the floats (RFC 4648 section 4).
void AppendBase64(const std::vector<float>& values, std::string& out) {
  constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto byte = [&values](size_t i) {
    return std::bit_cast<uint32_t>(values[i / 4]) >> (8 * (i % 4)) & 0xFF;
  };
  const size_t size = 4 * values.size();
  out.reserve(out.size() + (size + 2) / 3 * 4);
  for (size_t i = 0; i < size; i += 3) {
    const size_t left = size - i;
    const uint32_t bits =
        byte(i) << 16 | (left > 1 ? byte(i + 1) << 8 : 0) | (left > 2 ? byte(i + 2) : 0);
    out += kAlphabet[bits >> 18 & 63];
    out += kAlphabet[bits >> 12 & 63];
    out += left > 1 ? kAlphabet[bits >> 6 & 63] : '=';
    out += left > 2 ? kAlphabet[bits & 63] : '=';
  }
}

void AppendVector(const std::vector<float>& values, bool base64, std::string& out) {
  if (base64) {
    out += '"';
    AppendBase64(values, out);
    out += '"';
    return;
  }
  out += '[';
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonFloat(out, values[i]);
  }
  out += ']';
}

void AppendUsage(const Usage& usage, std::string& out) {
  out += "\"usage\":{\"prompt_tokens\":";
  AppendJsonInteger(out, usage.prompt_tokens);
  out += ",\"total_tokens\":";
  AppendJsonInteger(out, usage.prompt_tokens);
  out += '}';
}

float ScoreOf(const VectorEvent& event) { return event.values.empty() ? 0 : event.values.front(); }

std::string EmbeddingsJson(const HttpEmbed& request, const EmbedAnswer& answer) {
  std::string out = "{\"object\":\"list\",\"data\":[";
  for (const VectorEvent& event : answer.vectors) {
    if (event.index != answer.vectors.front().index) out += ',';
    out += "{\"object\":\"embedding\",\"index\":";
    AppendJsonInteger(out, event.index);
    out += ",\"embedding\":";
    AppendVector(event.values, request.base64, out);
    out += '}';
  }
  out += "],\"model\":";
  AppendJsonString(out, answer.model);
  out += ',';
  AppendUsage(answer.usage, out);
  out += '}';
  return out;
}

// Best first; equal ones in the client's order.
std::string RerankJson(const HttpEmbed& request, EmbedAnswer answer) {
  std::ranges::stable_sort(answer.vectors, std::greater(), ScoreOf);
  if (request.top_n && *request.top_n < static_cast<int64_t>(answer.vectors.size()))
    answer.vectors.resize(static_cast<size_t>(*request.top_n));
  std::string out = "{\"id\":";
  AppendJsonString(out, answer.id);
  out += ",\"model\":";
  AppendJsonString(out, answer.model);
  out += ",\"usage\":{\"total_tokens\":";
  AppendJsonInteger(out, answer.usage.prompt_tokens);
  out += "},\"results\":[";
  bool first = true;
  for (const VectorEvent& event : answer.vectors) {
    if (!std::exchange(first, false)) out += ',';
    out += "{\"index\":";
    AppendJsonInteger(out, event.index);
    out += ",\"relevance_score\":";
    AppendJsonFloat(out, ScoreOf(event));
    if (request.return_documents) {
      const auto& pair = std::get<TextPair>(request.embed.inputs[static_cast<size_t>(event.index)]);
      out += ",\"document\":{\"text\":";
      AppendJsonString(out, pair.second.Reveal());
      out += '}';
    }
    out += '}';
  }
  out += "]}";
  return out;
}

std::string ScoreJson(const EmbedAnswer& answer) {
  std::string out = "{\"id\":";
  AppendJsonString(out, answer.id);
  out += ",\"object\":\"list\",\"created\":";
  AppendJsonInteger(out, answer.created);
  out += ",\"model\":";
  AppendJsonString(out, answer.model);
  out += ",\"data\":[";
  for (const VectorEvent& event : answer.vectors) {
    if (event.index != answer.vectors.front().index) out += ',';
    out += "{\"index\":";
    AppendJsonInteger(out, event.index);
    out += ",\"object\":\"score\",\"score\":";
    AppendJsonFloat(out, ScoreOf(event));
    out += '}';
  }
  out += "],";
  AppendUsage(answer.usage, out);
  out += '}';
  return out;
}

}  // namespace

std::string EmbedJson(const HttpEmbed& request, EmbedAnswer answer) {
  std::ranges::sort(answer.vectors, {}, &VectorEvent::index);
  switch (request.endpoint) {
    case EmbedEndpoint::kEmbeddings:
      return EmbeddingsJson(request, answer);
    case EmbedEndpoint::kRerank:
      return RerankJson(request, std::move(answer));
    case EmbedEndpoint::kScore:
      return ScoreJson(answer);
  }
  return {};
}

}  // namespace sluice
