// Chat templates: the Jinja dialect that model files carry. Immutable after Parse; thread-safe.
#pragma once

#include <boost/json/value.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "sluice/types.h"

namespace sluice {

struct TemplateLimits {
  int64_t max_steps = 2'000'000;        // evaluated nodes and loop turns
  int64_t max_output_bytes = 64 << 20;  // also bounds every intermediate string
  int32_t max_depth = 100;              // nesting of expressions, macros and values
};

class ChatTemplate {
 public:
  // Errors: InvalidArgument with line and what was expected. Never executes anything.
  static absl::StatusOr<ChatTemplate> Parse(std::string_view source, TemplateLimits limits = {});
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // Renders over `variables` (messages, tools, add_generation_prompt, ...; text in them is the
  // client's) plus bos_token and eos_token. Segments with special_allowed come from template
  // literals and bos/eos only, however text travelled through the template (trim, replace, +,
  // tojson, loops); adjacent segments of one kind are merged. `now` is what strftime_now tells, in
  // the local time zone. Errors: InvalidArgument with what raise_exception said or where evaluation
  // failed; ResourceExhausted past a limit. Messages hold no client text: where raise_exception
  // quotes it, "…" stands.
  [[nodiscard]] absl::StatusOr<std::vector<PromptSegment>> Render(
      const boost::json::object& variables, std::string_view bos_token, std::string_view eos_token,
      absl::Time now = absl::Now()) const;

 private:
  struct Node;
  explicit ChatTemplate(std::shared_ptr<const Node> root, TemplateLimits limits);
  std::shared_ptr<const Node> root_;  // owners: copies of this template
  TemplateLimits limits_;
};

}  // namespace sluice
