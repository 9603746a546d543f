// Hostile templates and variables: each ends in one sentence, soon, and within its memory.
#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

#include "absl/time/clock.h"
#include "tests/template/rendering.h"

namespace sluice {
namespace {

using testing::Render;

std::string Times(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

class HostileTemplate : public ::testing::TestWithParam<std::string> {};

TEST_P(HostileTemplate, RunsIntoALimit) {
  const auto result =
      Render(GetParam(), R"({"s": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"})", {200'000, 1 << 20, 100});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted) << result.status();
  EXPECT_NE(std::string(result.status().message()).find("line "), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    All, HostileTemplate,
    ::testing::Values(
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{{ s * 100 }}{% endfor %}", "{{ 'a' * 1000000000000 }}",
        "{{ s * 9223372036854775807 }}", "{{ [1] * 10000000000 }}",
        "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% "
        "endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = ns.x + ns.x %}{% "
        "endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% "
        "endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(64) %}{% set ns.x = [ns.x, ns.x] %}{% "
        "endfor %}{{ ns.x == ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor "
        "%}{{ ns.x | tojson }}",
        "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "{{ s.center(100000000) }}",
        "{{ '%99999999d' % 1 }}", "{{ '{:>99999999}'.format(1) }}", "{{ s | indent(99999999) }}",
        "{{ [1] | tojson(indent=99999999) }}", "{{ ((s * 9999).replace('a', s * 999)) }}",
        "{{ (s * 9999) | replace('', s * 99) }}", "{{ ([s * 999] * 9999) | join }}",
        "{% for x in range(100000) %}{% set y = s * 30000 %}{% endfor %}",
        "{% for x in s * 30000 %}{% for y in s * 30000 %}{% endfor %}{% endfor %}",
        "{{ [1] | batch(99999999999, 'x') | list }}",
        "{{ range(99999) | map('string') | list | sort }}", "{{ strftime_now('%Y' * 999) }}"));

TEST(TemplateLimits, DeepNestingIsRefusedByTheParser) {
  for (const std::string& source :
       {"{{ " + Times("(", 5000) + "1" + Times(")", 5000) + " }}",
        "{{ " + Times("[", 5000) + Times("]", 5000) + " }}", "{{ " + Times("not ", 5000) + "1 }}",
        "{{ " + Times("-", 5000) + "1 }}", "{{ x" + Times(".a", 5000) + " }}",
        "{{ x" + Times("|trim", 5000) + " }}", "{{ x" + Times("(1)", 5000) + " }}",
        "{{ 1" + Times(" if 1", 5000) + " }}", "{{ " + Times("1 if 1 else ", 5000) + "1 }}",
        Times("{% if 1 %}", 5000) + Times("{% endif %}", 5000), Times("{% for x in y %}", 5000),
        "{% set " + Times("(", 5000) + "a = 1 %}", "{{ " + Times("{'a':", 5000) + " }}"}) {
    const auto result = ChatTemplate::Parse(source);
    ASSERT_FALSE(result.ok()) << source.substr(0, 40);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << result.status();
  }
}

TEST(TemplateLimits, LongFlatExpressionsAreFine) {
  EXPECT_EQ(*Render("{{ 1" + Times(" + 1", 5000) + " }}"), "5001");
  EXPECT_EQ(*Render("{{ 'a'" + Times(" ~ 'b'", 3) + " }}"), "abbb");
  EXPECT_EQ(*Render("{{ 0" + Times(" or 0", 5000) + " }}"), "0");
  EXPECT_EQ(*Render("{% if 0 %}" + Times("{% elif 0 %}", 2000) + "{% else %}x{% endif %}"), "x");
}

TEST(TemplateLimits, DeepVariablesAreRefused) {
  boost::json::value deep = 1;
  for (int i = 0; i < 5000; ++i) deep = boost::json::array{std::move(deep)};
  const auto result = Render("{{ x }}", boost::json::object{{"x", std::move(deep)}});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(TemplateLimits, VariablesTheTemplateDoesNotMentionCostNothing) {
  const boost::json::object variables{{"unused", std::string(1000, 'x')}, {"x", "y"}};
  EXPECT_EQ(*Render("{{ x }}", variables, {100, 10, 10}), "y");
}

TEST(TemplateLimits, OutputOfExactlyTheLimitIsFine) {
  EXPECT_EQ(Render("{{ x }}{{ x }}", R"({"x": "12345"})", {1000, 10, 10}).value_or("refused"),
            "1234512345");
  EXPECT_FALSE(Render("{{ x }}{{ x }}!", R"({"x": "12345"})", {1000, 10, 10}).ok());
}

TEST(TemplateLimits, IntegersHave64Bits) {
  EXPECT_EQ(*Render("{{ -9223372036854775807 - 1 }}|{{ (-9223372036854775807 - 1) % -1 }}"),
            "-9223372036854775808|0");
  for (const std::string_view expression :
       {"9223372036854775807 + 1", "2 ** 63", "9223372036854775807 * 2",
        "-(-9223372036854775807 - 1)", "(-9223372036854775807 - 1) // -1",
        "(-9223372036854775807 - 1) | abs", "9223372036854775808", "'99999999999999999999' | int",
        "1e300 | int", "9223372036854775807 | round(-1)"}) {
    EXPECT_FALSE(Render("{{ " + std::string(expression) + " }}").ok()) << expression;
  }
}

TEST(TemplateLimits, SourceMustBeUtf8AndOfSaneSize) {
  EXPECT_FALSE(ChatTemplate::Parse("a\xff").ok());
  EXPECT_FALSE(ChatTemplate::Parse(std::string(2 << 20, 'a')).ok());
}

TEST(TemplateLimits, ErrorsNameTheLine) {
  const auto at = [](std::string_view source) {
    return std::string(Render(source).status().message());
  };
  EXPECT_EQ(at("a\nb\n{{ x.y }}"), "chat template line 3: 'x' is undefined");
  EXPECT_EQ(at("a\n{% if %}"), "chat template line 2: expected an expression");
  EXPECT_EQ(at("{{\n\n'a' + 1 }}"),
            "chat template line 3: operator + does not apply to str and int");
  EXPECT_EQ(at("\n{% include 'x' %}"),
            "chat template line 2: unknown or unsupported tag 'include'");
  EXPECT_EQ(at("{% for x in y %}\n"), "chat template line 1: expected 'endfor'");
  EXPECT_EQ(at("{{ m.n.o }}"), "chat template line 1: 'm' is undefined");
  EXPECT_EQ(at("{{ {}['key'].o }}"), "chat template line 1: an undefined value is used");
}

}  // namespace
}  // namespace sluice
