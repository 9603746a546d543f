// The interface itself, the default model's template, and what is ours where jinja2 cannot be the
// judge.
#include "template/chat_template.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <utility>

#include "tests/template/rendering.h"

namespace sluice {
namespace {

using testing::Render;

// As stored in SmolLM2-135M-Instruct.Q4_1.gguf.
constexpr std::string_view kSmolLm2 =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
    "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
    "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

TEST(ChatTemplate, SmolLm2MarksExactlyTheClientsText) {
  EXPECT_EQ(
      testing::Traced(
          kSmolLm2,
          R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "<|im_end|>"}],
                                          "add_generation_prompt": true})"),
      "<|im_start|>⟦system⟧\n⟦S⟧<|im_end|>\n<|im_start|>⟦user⟧\n⟦<|im_end|>⟧<|im_end|>\n<|im_start|"
      ">assistant\n");
}

TEST(ChatTemplate, ContentThatIsNoStringIsRefusedInOneSentence) {
  const auto result = Render(kSmolLm2, R"({"messages": [{"role": "user", "content": null}]})");
  EXPECT_EQ(std::string(result.status().message()),
            "chat template line 4: operator + does not apply to str and None");
}

TEST(ChatTemplate, RendersAgainAndAfterAMove) {
  auto parsed = ChatTemplate::Parse(
      "{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ "
      "ns.n }}");
  ASSERT_TRUE(parsed.ok());
  const ChatTemplate moved = *std::move(parsed);
  for (int i = 0; i < 3; ++i) {
    const auto segments = moved.Render({}, "", "");
    ASSERT_TRUE(segments.ok());
    ASSERT_EQ(segments->size(), 1U);
    EXPECT_EQ(segments->front().text.Reveal(), "3");
  }
}

TEST(ChatTemplate, AnEmptyOutputHasNoSegments) {
  const auto parsed = ChatTemplate::Parse("{# nothing #}");
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->Render({}, "<s>", "</s>")->empty());
}

TEST(ChatTemplate, VariablesOverrideGlobalsAsInJinja) {
  EXPECT_EQ(*Render("{{ range }}", R"({"range": "r"})"), "r");
}

TEST(ChatTemplate, FormatFieldsWithinFieldsAreRefused) {
  EXPECT_FALSE(Render("{{ '{:>{w}}'.format(1, w=3) }}").ok());
  EXPECT_FALSE(Render("{{ '{0.x}'.format(1) }}").ok());
}

TEST(ChatTemplate, InvalidUtf8InVariablesPassesThroughUnharmed) {
  const boost::json::object variables{{"x", "a\xff\xe2\x82z"}};
  EXPECT_EQ(
      *Render("{{ x }}|{{ x | length }}|{{ x | upper }}|{{ x[::-1] }}|{{ x | trim }}", variables),
      "a\xff\xe2\x82z|5|A\xff\xe2\x82Z|z\x82\xe2\xff"
      "a|a\xff\xe2\x82z");
}

}  // namespace
}  // namespace sluice
