// Our output against Python's jinja2, byte for byte (tests/golden/make_templates.py wrote the
// expectations).
#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/template/rendering.h"

namespace sluice {
namespace {

std::string ReadGolden(const std::string& name) {
  const char* root = std::getenv("SLUICE_SOURCE_DIR");
  std::ifstream file(std::string(root == nullptr ? "." : root) + "/tests/golden/" + name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

const boost::json::object& Golden() {
  static const boost::json::object golden =
      boost::json::parse(ReadGolden("templates.json")).as_object();
  return golden;
}

const boost::json::object& Chats() {
  static const boost::json::object golden =
      boost::json::parse(ReadGolden("template_chats.json")).as_object();
  return golden;
}

std::string View(const boost::json::value& v) {
  return std::string(v.as_string().data(), v.as_string().size());
}

// null stands for "jinja2 refuses it".
void ExpectRender(const std::string& source, const boost::json::object& variables,
                  const boost::json::value& expected) {
  const auto actual = testing::Render(source, variables);
  if (expected.is_null()) {
    EXPECT_FALSE(actual.ok()) << "jinja2 refuses this; we give: " << *actual;
  } else {
    ASSERT_TRUE(actual.ok()) << actual.status() << "\nexpected: " << View(expected);
    EXPECT_EQ(*actual, View(expected));
  }
}

TEST(TemplateOracle, SnippetsRenderAsJinjaRendersThem) {
  const auto& snippets = Golden().at("snippets").as_array();
  EXPECT_GE(snippets.size(), 150U);
  for (const auto& snippet : snippets) {
    const std::string source = View(snippet.at("template"));
    SCOPED_TRACE(source);
    ExpectRender(source, Golden().at("variables").as_object(), snippet.at("expected"));
  }
}

// Without a generation prompt most answers are the beginning of those with one: a number says how
// many bytes of it.
TEST(TemplateOracle, ChatTemplatesRenderAsJinjaRendersThem) {
  std::map<std::string, std::string> sources;
  for (const auto& chat : Chats().at("chats").as_array()) {
    const std::string name = View(chat.at("template"));
    const std::string conversation = View(chat.at("conversation"));
    SCOPED_TRACE(name + " with " + conversation);
    std::string& source = sources[name];
    if (source.empty()) source = ReadGolden("templates/" + name + ".jinja");
    boost::json::object variables = Chats().at("conversations").at(conversation).as_object();
    variables["add_generation_prompt"] = true;
    ExpectRender(source, variables, chat.at("expected"));
    variables["add_generation_prompt"] = false;
    boost::json::value without = chat.at("without_prompt");
    if (without.is_int64()) {
      without = boost::json::string(
          View(chat.at("expected")).substr(0, static_cast<size_t>(without.as_int64())));
    }
    ExpectRender(source, variables, without);
  }
  EXPECT_GE(sources.size(), 38U);
}

}  // namespace
}  // namespace sluice
