#include "apps/trace.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "base/status_macros.h"

namespace sluice {
namespace {

namespace json = boost::json;

constexpr size_t kMaxLineBytes = 1 << 20, kMaxNameBytes = 64;
constexpr uintmax_t kMaxFileBytes = uintmax_t{4} << 30;
constexpr double kMaxSeconds = 1e7, kMaxTokens = 1 << 24, kMaxPriority = 1 << 20;

absl::Status Wrong(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{} {}", field, what));
}

// A number of a line's object, whole unless `out` is a double; `out` stays where there is none.
template <class T>
absl::Status ReadNumber(const json::object& line, std::string_view field, double min, double max,
                        T* out) {
  const json::value* value = line.if_contains(field);
  if (value == nullptr) return absl::OkStatus();
  const bool number = value->is_int64() || value->is_uint64() || value->is_double();
  const double read = number ? value->to_number<double>() : std::nan("");
  const bool whole = std::is_floating_point_v<T> || read == std::floor(read);
  if (!(read >= min && read <= max) || !whole) {
    return Wrong(
        field, fmt::format("must be {} between {:.0f} and {:.0f}",
                           std::is_floating_point_v<T> ? "a number" : "a whole number", min, max));
  }
  *out = static_cast<T>(read);
  return absl::OkStatus();
}

absl::Status ReadTenant(const json::object& line, std::string* out) {
  const json::value* value = line.if_contains("tenant");
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_string() || value->get_string().size() > kMaxNameBytes)
    return Wrong("tenant", fmt::format("must be a text of at most {} bytes", kMaxNameBytes));
  *out = std::string(value->get_string());
  return absl::OkStatus();
}

absl::Status ReadPrefix(const json::object& line, TraceRequest& request) {
  const json::value* value = line.if_contains("prefix");
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_array()) return Wrong("prefix", "must be a list");
  for (const json::value& hash : value->get_array()) {
    if (hash.is_int64() && hash.get_int64() >= 0) {
      request.prefix.push_back(hash.get_int64());
    } else if (hash.is_string() && hash.get_string().size() <= kMaxNameBytes) {
      request.prefix.push_back(XXH3_64bits(hash.get_string().data(), hash.get_string().size()));
    } else {
      return Wrong("prefix", fmt::format("must hold whole numbers and texts of at most {} bytes",
                                         kMaxNameBytes));
    }
  }
  const auto pieces = static_cast<int64_t>(request.prefix.size());
  if (pieces > 0 && (pieces - 1) * request.prefix_tokens >= request.prompt_tokens) {
    return Wrong("prefix", fmt::format("has {} pieces of {} tokens; the prompt has {} tokens",
                                       pieces, request.prefix_tokens, request.prompt_tokens));
  }
  return absl::OkStatus();
}

absl::StatusOr<TraceRequest> ParseLine(std::string_view text) {
  static constexpr std::array<std::string_view, 7> kFields = {
      "at_s", "prompt_tokens", "output_tokens", "prefix", "prefix_tokens", "tenant", "priority"};
  if (text.size() > kMaxLineBytes)
    return Wrong("the line", fmt::format("has more than {} bytes", kMaxLineBytes));
  json::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object()) return Wrong("the line", "is no JSON object");
  const json::object& line = value.get_object();
  for (const auto& field : line) {
    if (std::ranges::find(kFields, std::string_view(field.key())) == kFields.end())
      return Wrong("the line", fmt::format("has an unknown field {:?}",
                                           std::string_view(field.key()).substr(0, kMaxNameBytes)));
  }
  for (const std::string_view field : {"at_s", "prompt_tokens", "output_tokens"}) {
    if (!line.contains(field)) return Wrong(field, "is missing");
  }
  TraceRequest r;
  RETURN_IF_ERROR(ReadNumber(line, "at_s", 0, kMaxSeconds, &r.at_s));
  RETURN_IF_ERROR(ReadNumber(line, "prompt_tokens", 1, kMaxTokens, &r.prompt_tokens));
  RETURN_IF_ERROR(ReadNumber(line, "output_tokens", 1, kMaxTokens, &r.output_tokens));
  RETURN_IF_ERROR(ReadNumber(line, "prefix_tokens", 1, kMaxTokens, &r.prefix_tokens));
  RETURN_IF_ERROR(ReadNumber(line, "priority", -kMaxPriority, kMaxPriority, &r.priority));
  RETURN_IF_ERROR(ReadTenant(line, &r.tenant));
  RETURN_IF_ERROR(ReadPrefix(line, r));
  return r;
}

// What the requests before leave of the limits.
absl::Status CheckAgainst(const TraceRequest& request, double last_at_s, TraceLimits& left) {
  left.max_requests -= 1;
  left.max_prefix_pieces -= static_cast<int64_t>(request.prefix.size());
  left.max_output_tokens -= request.output_tokens;
  if (request.at_s < last_at_s)
    return Wrong("at_s", fmt::format("is {}; the line before has {}", request.at_s, last_at_s));
  if (left.max_requests < 0) return Wrong("the trace", "has too many requests");
  if (left.max_prefix_pieces < 0) return Wrong("prefix", "has too many pieces in all");
  if (left.max_output_tokens < 0) return Wrong("output_tokens", "are too many in all");
  return absl::OkStatus();
}

// The finaliser of SplitMix64.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

absl::StatusOr<std::vector<TraceRequest>> ParseTrace(std::string_view text, const std::string& name,
                                                     const TraceLimits& limits) {
  TraceLimits left = limits;
  std::vector<TraceRequest> requests;
  int64_t line_number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto request = ParseLine(line);
    const double last = requests.empty() ? 0 : requests.back().at_s;
    const absl::Status status =
        request.ok() ? CheckAgainst(*request, last, left) : request.status();
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: line {}: {}", name, line_number, std::string(status.message())));
    }
    requests.push_back(*std::move(request));
  }
  if (requests.empty()) return absl::InvalidArgumentError(fmt::format("{}: no requests", name));
  return requests;
}

absl::StatusOr<std::vector<TraceRequest>> ReadTrace(const std::string& file) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(file, error);
  if (error) return absl::NotFoundError(fmt::format("{}: {}", file, error.message()));
  if (size > kMaxFileBytes)
    return absl::InvalidArgumentError(
        fmt::format("{}: {} bytes; the limit is {}", file, size, kMaxFileBytes));
  std::ifstream in(file, std::ios::binary);
  std::string text(static_cast<size_t>(size), '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size)))
    return absl::NotFoundError(fmt::format("{}: cannot be read", file));
  return ParseTrace(text, file);
}

std::vector<TokenId> PromptOf(const TraceRequest& request, uint64_t number) {
  std::vector<TokenId> tokens(static_cast<size_t>(request.prompt_tokens));
  const auto piece_tokens = static_cast<size_t>(request.prefix_tokens);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const size_t piece = i / piece_tokens;
    const bool shared = piece < request.prefix.size();
    // Two families of streams that do not meet, but by a chance of 2^-31 a token.
    const uint64_t stream = shared ? Mix(request.prefix[piece] + 0x9e3779b97f4a7c15ULL)
                                   : ~Mix(number + 0x632be59bd9b4e019ULL);
    const size_t offset = shared ? i % piece_tokens : i;
    tokens[i] = static_cast<TokenId>(Mix(stream + offset) >> 33);
  }
  return tokens;
}

}  // namespace sluice
