// Any bytes as HTTP requests, whole and in pieces: both ways must agree on every request, a refusal
// is a number of the 400s or 500s that the parser knows, and each target finds a route or a status.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/errors.h"
#include "http/request_parser.h"
#include "http/route_table.h"

namespace {

void Check(bool condition) {
  if (!condition) std::abort();
}

struct Outcome {
  int refusal = 0;
  bool done = false;
  std::string method, target, body;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome Parse(std::string_view bytes, size_t step) {
  sluice::RequestParser parser({512, 1024});
  Outcome outcome;
  std::string input;
  while (!bytes.empty() && !parser.done() && outcome.refusal == 0) {
    const size_t n = std::min(step, bytes.size());
    input += bytes.substr(0, n);
    bytes.remove_prefix(n);
    for (bool going = true; going && !parser.done();) {
      const auto taken = parser.Parse(input);
      if (!taken.ok()) {
        outcome.refusal = sluice::ToWireError(taken.status()).http_status;
        Check(outcome.refusal >= 400 && outcome.refusal <= 505);
        break;
      }
      Check(*taken <= input.size());
      input.erase(0, *taken);
      going = *taken > 0 && !input.empty();
    }
  }
  if (!parser.header_done()) return outcome;
  outcome.done = parser.done();
  outcome.method = parser.method();
  outcome.target = parser.target();
  Check(parser.body().size() <= 1024);
  if (outcome.done) outcome.body = parser.body();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const Outcome whole = Parse(bytes, bytes.size() + 1);
  const Outcome pieces = Parse(bytes, 7);
  // What is wrong may be found earlier in pieces, but what was done stays so.
  if (whole.done && whole.refusal == 0) Check(whole == pieces);
  for (const bool admin : {false, true}) {
    const sluice::RouteMatch match = sluice::FindRoute(whole.method, bytes, {admin, false});
    Check(match.route != nullptr || !match.status.ok());
  }
  return 0;
}
