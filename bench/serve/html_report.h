// Results as one page: plots first, numbers below. It needs nothing from the network.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <vector>

namespace sluice::load {

struct NamedResult {
  std::string name;
  boost::json::object result;  // of ResultJson or rate_search
};

// One result, or several that are drawn over each other and compared.
std::string HtmlReport(const std::vector<NamedResult>& results);

}  // namespace sluice::load
