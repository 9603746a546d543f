#include "template/chat_template.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status_macros.h"
#include "template/interpreter.h"
#include "template/parser.h"
#include "template/unicode.h"

namespace sluice {
namespace {

constexpr size_t kMaxSourceBytes = 1 << 20;  // real templates have 1 to 20 KB

// Offsets into strings have 32 bits.
constexpr int64_t kMaxStringBytes = int64_t{1} << 31;

}  // namespace

struct ChatTemplate::Node {
  std::unique_ptr<const jinja::Template> program;
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Node> root, TemplateLimits limits)
    : root_(std::move(root)), limits_(limits) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view source, TemplateLimits limits) {
  if (source.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError(fmt::format(
        "chat template has {} bytes; at most {} are allowed", source.size(), kMaxSourceBytes));
  }
  if (!jinja::IsValidUtf8(source))
    return absl::InvalidArgumentError("chat template is not valid UTF-8");
  limits.max_output_bytes = std::clamp<int64_t>(limits.max_output_bytes, 0, kMaxStringBytes);
  limits.max_depth =
      std::clamp(limits.max_depth, 1, 100);  // what the stacks of our threads are sized for
  ASSIGN_OR_RETURN(auto program, jinja::ParseTemplate(source, limits.max_depth));
  return ChatTemplate(std::make_shared<const Node>(Node{std::move(program)}), limits);
}

absl::StatusOr<std::vector<PromptSegment>> ChatTemplate::Render(
    const boost::json::object& variables, std::string_view bos_token, std::string_view eos_token,
    absl::Time now) const {
  jinja::Interpreter interpreter(*root_->program, limits_, now);
  ASSIGN_OR_RETURN(const jinja::TracedString output,
                   interpreter.Render(variables, bos_token, eos_token));
  std::vector<PromptSegment> segments;
  output.ForEachRun([&segments](std::string_view run, jinja::Origin origin) {
    segments.push_back({Text(std::string(run)), origin == jinja::Origin::kTemplate});
  });
  return segments;
}

}  // namespace sluice
