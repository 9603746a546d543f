// The search for a rate, and what people see of results.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <string>
#include <vector>

#include "bench/serve/html_report.h"
#include "bench/serve/rate_search.h"
#include "bench/serve/summary.h"
#include "bench/serve/svg_plot.h"

namespace sluice::load {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// A server that is good at everything up to `capacity` requests/s and at nothing beyond.
json::object RunOf(double rate, double capacity) {
  const int good = rate <= capacity ? 100 : 10;
  return {{"requests", json::object{{"scheduled", 100}, {"good", good}, {"failed", 0}}},
          {"rates", json::object{{"output_tokens_per_s", rate * 10}}},
          {"latency_ms", json::object{{"ttft", json::object{{"p50", rate}, {"p99", rate * 2}}}}}};
}

json::object Search(double capacity, double first, int max_runs, int& runs) {
  const RunAtRate run = [&](double rate) -> absl::StatusOr<json::object> {
    ++runs;
    return RunOf(rate, capacity);
  };
  return *FindMaxRate({.first_rate = first, .max_runs = max_runs}, run, [](const std::string&) {});
}

TEST(RateSearch, FindsTheCapacityFromAboveAndBelow) {
  for (const double capacity : {0.3, 7.0, 96.0, 1234.0}) {
    for (const double first : {1.0, 100.0}) {
      int runs = 0;
      const json::object result = Search(capacity, first, 40, runs);
      EXPECT_LE(NumberAt(result, "max_rate"), capacity);
      EXPECT_GE(NumberAt(result, "max_rate"), capacity / 1.051);
      EXPECT_EQ(result.at("tries").as_array().size(), static_cast<size_t>(runs));
      // The result is the best rate's own.
      EXPECT_DOUBLE_EQ(NumberAt(result, "rates.output_tokens_per_s"),
                       NumberAt(result, "max_rate") * 10);
    }
  }
}

TEST(RateSearch, EndsWithoutAnAnswerAfterTheMostRuns) {
  int runs = 0;
  EXPECT_EQ(NumberAt(Search(0, 1, 6, runs), "max_rate"), 0);
  EXPECT_EQ(runs, 6);
  runs = 0;
  EXPECT_GT(NumberAt(Search(1e12, 1, 6, runs), "max_rate"), 16);
  EXPECT_EQ(runs, 6);
}

TEST(RateSearch, AFailedRunEndsIt) {
  const RunAtRate run = [](double) -> absl::StatusOr<json::object> {
    return absl::UnavailableError("nobody listens");
  };
  EXPECT_FALSE(FindMaxRate({}, run, [](const std::string&) {}).ok());
}

TEST(RateSearch, GivenRatesAreAllTried) {
  std::vector<std::string> lines;
  const RunAtRate run = [](double rate) -> absl::StatusOr<json::object> { return RunOf(rate, 3); };
  const auto result =
      RunRates({4, 1, 2}, 0.99, run, [&](const std::string& line) { lines.push_back(line); });
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->at("tries").as_array().size(), 3U);
  EXPECT_EQ(NumberAt(result->at("tries").as_array()[0].as_object(), "rate"), 1);
  EXPECT_THAT(lines, ElementsAre(HasSubstr("not kept"), Not(HasSubstr("not kept")), testing::_));
}

TEST(SvgPlot, TicksAreRoundAndInside) {
  EXPECT_THAT(Ticks(0, 10, false, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(Ticks(0, 0.7, false, 7), testing::SizeIs(8));
  EXPECT_THAT(Ticks(3, 80, true, 7), ElementsAre(5, 10, 20, 50));
  EXPECT_THAT(Ticks(0.5, 2e6, true, 7), testing::SizeIs(7));
  EXPECT_EQ(TickText(1500000), "1.5M");
  EXPECT_EQ(TickText(0.02), "0.02");
}

TEST(SvgPlot, WithoutDataItSaysSo) {
  EXPECT_THAT(SvgFigure({.title = "T"}), HasSubstr("no data"));
  EXPECT_THAT(SvgFigure({.log_x = true, .series = {{.points = {{0, 1}}}}}), HasSubstr("no data"));
}

TEST(SvgPlot, APointIsWhereItBelongs) {
  const std::string svg = SvgFigure({.max_y = 5,
                                     .series = {{.points = {{0, 0}, {10, 5}}, .dots = {"a", "b"}}},
                                     .marks = {{.at = 5, .label = "limit"}}});
  EXPECT_THAT(svg, HasSubstr("cx=\"58.0\" cy=\"246.0\""));  // left, below
  EXPECT_THAT(svg, HasSubstr("cx=\"546.0\" cy=\"12.0\""));  // right, above
  EXPECT_THAT(svg, HasSubstr("x1=\"302.0\" x2=\"302.0\" y1=\"12.0\""));
}

// What a server or a user says must not become markup.
TEST(HtmlReport, HostileTextIsEscaped) {
  const std::string bad = "<script>alert(1)</script>";
  json::object result = RunOf(1, 2);
  result["options"] = json::object{{"model", bad}, {"url", bad}, {"loop", "closed"}};
  result["errors"] = json::object{{bad, json::object{{"count", 1}, {"example", bad}}}};
  result["doubts"] = json::array{bad};
  for (const size_t copies : {1U, 2U}) {
    const std::string page =
        HtmlReport(std::vector<NamedResult>(copies, {.name = bad, .result = result}));
    EXPECT_THAT(page, Not(HasSubstr("<script")));
    EXPECT_THAT(page, Not(HasSubstr("http-equiv")));
  }
}

TEST(HtmlReport, AnyJsonOfTheSchemaIsSurvived) {
  const json::value odd = {{"latency_ms", {{"ttft", {{"buckets", {{1, 2, 3}, {4}}}}}, {"itl", 3}}},
                           {"timeline", {1, {{"chunks", "x"}}}},
                           {"tries", {7, {{"rate", 1}}}},
                           {"errors", {{"a", 1}}},
                           {"doubts", {3}}};
  EXPECT_THAT(HtmlReport({{"a", odd.as_object()}, {"b", {}}}), HasSubstr("</html>"));
  EXPECT_THAT(Summary(odd.as_object()), HasSubstr("TTFT"));
}

TEST(Comparison, ShowsTheRatio) {
  const std::string text = Comparison(RunOf(10, 20), RunOf(15, 20), "a.json", "b.json");
  EXPECT_THAT(text, HasSubstr("TTFT p99 ms                     20.000        30.000     1.500"));
}

}  // namespace
}  // namespace sluice::load
