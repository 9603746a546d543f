#include "bench/serve/slo.h"

#include <fmt/format.h>

#include "absl/time/time.h"
#include "bench/serve/text.h"

namespace sluice::load {

absl::StatusOr<Slo> ParseSlo(const std::string& text) {
  Slo slo;
  if (text.empty()) return slo;
  for (const std::string_view part : Split(text, ',')) {
    const size_t equal = part.find('=');
    const std::string_view name = Strip(part.substr(0, equal));
    int64_t* limit = nullptr;
    if (name == "ttft") limit = &slo.ttft_ns;
    if (name == "itl") limit = &slo.itl_ns;
    if (name == "tpot") limit = &slo.tpot_ns;
    if (name == "e2e") limit = &slo.e2e_ns;
    absl::Duration value;
    if (limit == nullptr || *limit != 0 || equal == std::string_view::npos ||
        !absl::ParseDuration(std::string(Strip(part.substr(equal + 1))), &value) ||
        value <= absl::ZeroDuration() || value > absl::Hours(24))
      return absl::InvalidArgumentError(fmt::format(
          "slo \"{}\" is none of ttft, itl, tpot and e2e with a time: ttft=200ms,itl=50ms", part));
    *limit = absl::ToInt64Nanoseconds(value);
  }
  return slo;
}

}  // namespace sluice::load
