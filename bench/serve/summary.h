// Results as text for a terminal.
#pragma once

#include <boost/json/object.hpp>
#include <span>
#include <string>
#include <string_view>

namespace sluice::load {

// The number at a path such as "latency_ms.ttft.p99"; 0 if there is none.
double NumberAt(const boost::json::object& result, std::string_view path);
std::string TextAt(const boost::json::object& result, std::string_view path);

// "poisson, 20 requests/s" or "closed loop, 8 users".
std::string LoadText(const boost::json::object& result);

// Requests, rates, latencies, errors and doubts of one run.
std::string Summary(const boost::json::object& result);

// A table of latencies: a row a name under "latency_ms", a column a field of it. Labels come first.
struct TableName {
  const char* label;
  const char* name;
};
std::string LatencyTable(const boost::json::object& result, std::span<const TableName> rows,
                         std::span<const TableName> columns);
// A line each of "errors" and "doubts".
std::string ErrorLines(const boost::json::object& result);

// Two runs side by side, with the second's change against the first.
std::string Comparison(const boost::json::object& a, const boost::json::object& b,
                       std::string_view name_a, std::string_view name_b);

// The rows of a comparison; also of the report in HTML.
struct ComparedValue {
  const char* label;
  const char* path;
  const char* unit;
  bool less_is_better;
};
std::span<const ComparedValue> ComparedValues();

}  // namespace sluice::load
