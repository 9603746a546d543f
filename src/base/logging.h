// Structured logs over spdlog: one event name, then fields; text ("event key=value ...") or JSON
// lines on stderr. sluice::Text does not convert to a LogValue, so prompt and output text cannot be
// logged.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice {

enum class LogLevel : uint8_t { kTrace, kDebug, kInfo, kWarn, kError };

class LogValue {
 public:
  // NOLINTBEGIN(google-explicit-constructor): call sites read as a table
  LogValue(std::string_view v) : value_(std::string(v)) {}
  LogValue(const char* v) : value_(std::string(v)) {}
  LogValue(const std::string& v) : value_(v) {}
  LogValue(bool v) : value_(v) {}
  LogValue(double v) : value_(v) {}
  LogValue(int v) : value_(static_cast<int64_t>(v)) {}
  LogValue(int64_t v) : value_(v) {}
  LogValue(uint64_t v) : value_(v) {}
  LogValue(absl::Duration v) : value_(absl::ToDoubleSeconds(v)) {}  // seconds
  // NOLINTEND(google-explicit-constructor)
  [[nodiscard]] const std::variant<std::string, bool, double, int64_t, uint64_t>& value() const {
    return value_;
  }

 private:
  std::variant<std::string, bool, double, int64_t, uint64_t> value_;
};
using LogFields = std::initializer_list<std::pair<std::string_view, LogValue>>;

// Once, at start, before threads. Errors: InvalidArgument for an unknown level or format.
absl::Status SetUpLogging(std::string_view level, std::string_view format);

// Whether lines of that level are written: for what is only computed to be logged. Thread-safe.
[[nodiscard]] bool Logs(LogLevel level);

// Thread-safe. Control characters in values are escaped, so a client cannot forge a line.
void Log(LogLevel level, std::string_view event, LogFields fields = {});

}  // namespace sluice
