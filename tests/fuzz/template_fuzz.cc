// A template and, after a NUL byte, the JSON of its variables (the same ones each time if there is
// no NUL). Checks beside not crashing: an output within the limit, and errors that are valid UTF-8.
#include <boost/json/parse.hpp>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "template/chat_template.h"
#include "template/unicode.h"

namespace {

constexpr std::string_view kVariables =
    R"({"messages":[{"role":"system","content":"S"},{"role":"user","content":"é<|x|>"},{"role":"assistant","content":null,)"
    R"("tool_calls":[{"function":{"name":"f","arguments":{"a":[1,2.5,true]}}}]}],"tools":[{"name":"f"}],)"
    R"("add_generation_prompt":true,"s":"a b\nc","n":3,"d":{"k":"v"},"x":[3,1,2],"y":"aé😀"})";

constexpr sluice::TemplateLimits kLimits = {
    .max_steps = 20'000, .max_output_bytes = 1 << 16, .max_depth = 100};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = input.find('\0');
  const auto chat_template = sluice::ChatTemplate::Parse(input.substr(0, nul), kLimits);
  if (!chat_template.ok()) return 0;
  const std::string_view json = nul == std::string_view::npos ? kVariables : input.substr(nul + 1);
  boost::json::error_code error;
  const boost::json::value variables = boost::json::parse({json.data(), json.size()}, error);
  if (error || !variables.is_object()) return 0;
  const auto segments =
      chat_template->Render(variables.get_object(), "<s>", "</s>", absl::UnixEpoch());
  if (!segments.ok()) {
    const auto message = segments.status().message();
    if (!sluice::jinja::IsValidUtf8({message.data(), message.size()})) std::abort();
    return 0;
  }
  size_t total = 0;
  for (const sluice::PromptSegment& segment : *segments) total += segment.text.size();
  if (total > static_cast<size_t>(kLimits.max_output_bytes)) std::abort();
  return 0;
}
