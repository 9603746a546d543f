// Our output against Python's jinja2, byte for byte (tests/golden/make_templates.py wrote the
// expectations).
#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/template/rendering.h"

namespace sluice {
namespace {

const boost::json::object& Golden() {
  static const boost::json::object golden = [] {
    const char* root = std::getenv("SLUICE_SOURCE_DIR");
    std::ifstream file(std::string(root == nullptr ? "." : root) + "/tests/golden/templates.json");
    std::stringstream text;
    text << file.rdbuf();
    return boost::json::parse(text.str()).as_object();
  }();
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

TEST(TemplateOracle, ChatTemplatesRenderAsJinjaRendersThem) {
  const auto& chats = Golden().at("chats").as_array();
  EXPECT_GE(Golden().at("templates").as_object().size(), 13U);
  for (const auto& chat : chats) {
    const std::string name = View(chat.at("template"));
    const std::string conversation = View(chat.at("conversation"));
    SCOPED_TRACE(name + " with " + conversation);
    boost::json::object variables = Golden().at("conversations").at(conversation).as_object();
    variables["add_generation_prompt"] = chat.at("add_generation_prompt");
    ExpectRender(View(Golden().at("templates").at(name)), variables, chat.at("expected"));
  }
}

}  // namespace
}  // namespace sluice
