#include "tests/template/rendering.h"

#include <boost/json/parse.hpp>

#include "absl/time/civil_time.h"
#include "base/status_macros.h"

namespace sluice::testing {
namespace {

absl::Time Now() {
  return absl::FromCivil(absl::CivilSecond(2026, 1, 2, 3, 4, 5), absl::LocalTimeZone());
}

absl::StatusOr<std::vector<PromptSegment>> Segments(std::string_view source,
                                                    const boost::json::object& variables,
                                                    TemplateLimits limits) {
  ASSIGN_OR_RETURN(const ChatTemplate chat_template, ChatTemplate::Parse(source, limits));
  return chat_template.Render(variables, "<s>", "</s>", Now());
}

boost::json::object ParseObject(std::string_view json) {
  return boost::json::parse({json.data(), json.size()}).as_object();
}

}  // namespace

absl::StatusOr<std::string> Render(std::string_view source, const boost::json::object& variables,
                                   TemplateLimits limits) {
  ASSIGN_OR_RETURN(const std::vector<PromptSegment> segments, Segments(source, variables, limits));
  std::string out;
  for (const PromptSegment& segment : segments) out += segment.text.Reveal();
  return out;
}

absl::StatusOr<std::string> Render(std::string_view source, std::string_view variables_json,
                                   TemplateLimits limits) {
  return Render(source, ParseObject(variables_json), limits);
}

std::string Traced(std::string_view source, std::string_view variables_json) {
  const auto segments = Segments(source, ParseObject(variables_json), {});
  if (!segments.ok()) return std::string(segments.status().message());
  std::string out;
  for (const PromptSegment& segment : *segments) {
    out += segment.special_allowed ? segment.text.Reveal() : "⟦" + segment.text.Reveal() + "⟧";
  }
  return out;
}

}  // namespace sluice::testing
