#include "bench/serve/chunk_reader.h"

#include <algorithm>
#include <boost/json/monotonic_resource.hpp>
#include <boost/json/parse.hpp>
#include <iterator>

namespace sluice::load {
namespace {

namespace json = boost::json;

const json::object* ObjectAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr ? nullptr : value->if_object();
}

int64_t IntegerAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_int64() ? value->get_int64() : -1;
}

bool AppendString(const json::object& object, std::string_view name, std::string& out) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_string()) return false;
  out.append(value->get_string());
  return true;
}

// Unescapes the inside of a JSON string. False if it is none.
bool Unescape(std::string_view inside, std::string& out) {
  std::string quoted = "\"";
  quoted.append(inside).push_back('"');
  json::error_code error;
  const json::value value = json::parse(quoted, error);
  if (error || !value.is_string()) return false;
  out.assign(value.get_string());
  return true;
}

// The end of the string that begins at `begin` (behind its quote), or npos.
size_t EndOfString(std::string_view text, size_t begin) {
  for (size_t at = begin; at < text.size(); ++at) {
    if (text[at] == '"') return at;
    if (text[at] == '\\') ++at;
  }
  return std::string_view::npos;
}

}  // namespace

void ChunkReader::Reset() {
  before_.clear();
  after_.clear();
}

StreamChunk ChunkReader::Read(std::string_view event) {
  StreamChunk chunk;
  if (ReadLikeTheLast(event, chunk)) return chunk;
  if (event == "[DONE]") {
    chunk.done = true;
    return chunk;
  }
  Parse(event, chunk);
  return chunk;
}

bool ChunkReader::ReadLikeTheLast(std::string_view event, StreamChunk& chunk) {
  if (before_.empty() || event.size() < before_.size() + after_.size() ||
      !event.starts_with(before_) || !event.ends_with(after_))
    return false;
  const std::string_view inside =
      event.substr(before_.size(), event.size() - before_.size() - after_.size());
  bool escaped = false;
  for (size_t i = 0; i < inside.size(); ++i) {
    if (inside[i] == '"') return false;  // ends before `after_`
    if (inside[i] != '\\') continue;
    escaped = true;
    if (++i == inside.size()) return false;  // escapes the quote that `after_` begins with
  }
  chunk.has_text = true;
  chunk.text = inside;
  if (!escaped) return true;
  if (!Unescape(inside, text_)) return false;
  chunk.text = text_;
  return true;
}

void ChunkReader::Parse(std::string_view event, StreamChunk& chunk) {
  ++num_parsed_;
  unsigned char memory[4096];
  json::monotonic_resource resource(memory, sizeof(memory));
  json::error_code error;
  const json::value value = json::parse(event, error, &resource);
  const json::object* object = error ? nullptr : value.if_object();
  chunk.malformed = object == nullptr;
  if (chunk.malformed) return;
  const json::value* failure = object->if_contains("error");
  chunk.failed = failure != nullptr && !failure->is_null();
  if (const json::object* usage = ObjectAt(*object, "usage"); usage != nullptr) {
    chunk.prompt_tokens = IntegerAt(*usage, "prompt_tokens");
    chunk.output_tokens = IntegerAt(*usage, "completion_tokens");
    const json::object* details = ObjectAt(*usage, "prompt_tokens_details");
    if (details != nullptr) chunk.cached_tokens = IntegerAt(*details, "cached_tokens");
  }
  const json::value* choices = object->if_contains("choices");
  if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return;
  const json::object* choice = choices->get_array().front().if_object();
  if (choice == nullptr) return;
  text_.clear();
  reason_.clear();
  const json::object* delta = ObjectAt(*choice, "delta");
  if (delta == nullptr) {
    AppendString(*choice, "text", text_);
  } else {
    AppendString(*delta, "content", text_);
    AppendString(*delta, "reasoning_content", text_);
    AppendString(*delta, "reasoning", text_);
  }
  chunk.has_text = !text_.empty();
  chunk.text = text_;
  AppendString(*choice, "finish_reason", reason_);
  chunk.finish_reason = reason_;
  const bool plain = reason_.empty() && !chunk.failed && chunk.output_tokens < 0 &&
                     choices->get_array().size() == 1;
  if (plain && chunk.has_text) Remember(event);
}

// A quoted key cannot stand inside a JSON string, where its quotes would be escaped.
void ChunkReader::Remember(std::string_view event) {
  Reset();
  for (const std::string_view key : {"\"content\"", "\"text\""}) {
    size_t at = event.find(key);
    if (at == std::string_view::npos) continue;
    at = event.find_first_not_of(" \t", at + key.size());
    if (at == std::string_view::npos || event[at] != ':') continue;
    at = event.find_first_not_of(" \t", at + 1);
    if (at == std::string_view::npos || event[at] != '"') continue;
    const size_t end = EndOfString(event, at + 1);
    std::string text;
    if (end == std::string_view::npos || !Unescape(event.substr(at + 1, end - at - 1), text) ||
        text != text_)
      continue;  // another field's
    before_ = event.substr(0, at + 1);
    after_ = event.substr(end);
    return;
  }
}

}  // namespace sluice::load
