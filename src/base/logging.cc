#include "base/logging.h"

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <memory>
#include <type_traits>

namespace sluice {
namespace {

// A longer value is cut, so that one line stays one line of any log shipper (commonly 16 KiB).
constexpr size_t kMaxValueBytes = 2048;

constexpr const char* kTextPattern = "%Y-%m-%dT%H:%M:%S.%fZ %l %v";
constexpr const char* kJsonPattern = R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l",%v})";

std::unique_ptr<spdlog::formatter> Formatter(const char* pattern) {
  return std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc);
}

std::shared_ptr<spdlog::logger> MakeLogger() {
  auto logger =
      std::make_shared<spdlog::logger>("sluice", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(Formatter(kTextPattern));
  return logger;
}

// The process' one log. Standard error is global whatever we do; everything else is passed in.
// Never destroyed: a thread may still log while the process exits.
spdlog::logger& Logger() {
  static auto& logger = *new std::shared_ptr<spdlog::logger>(MakeLogger());
  return *logger;
}
std::atomic<bool> json_lines{false};

struct Character {
  uint32_t code_point;
  size_t size;  // bytes
  bool valid;
};

// The character at the front of s (not empty); an invalid byte stands alone. Source: Unicode 15,
// table 3-7.
Character Front(std::string_view s) {
  const auto byte = [s](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1, true};
  const size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || s.size() < size) return {first, 1, false};
  uint32_t code_point = first & (0x7FU >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return {first, 1, false};
    code_point = (code_point << 6U) | (byte(i) & 0x3FU);
  }
  const bool overlong = (size == 3 && code_point < 0x800) || (size == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
  if (overlong || surrogate || code_point > 0x10FFFF) return {first, 1, false};
  return {code_point, size, true};
}

// What a terminal or log viewer would act on instead of showing: C0 and C1 controls, line and
// paragraph separators, and the characters that reorder text.
bool IsUnsafe(uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x2028 || c == 0x2029 || c == 0x200E ||
         c == 0x200F || (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

// Appends value as a JSON string; both formats use it. Invalid UTF-8 becomes U+FFFD.
void AppendQuoted(std::string& out, std::string_view value) {
  const bool cut = value.size() > kMaxValueBytes;
  if (cut) value = value.substr(0, kMaxValueBytes);
  out += '"';
  while (!value.empty()) {
    const Character c = Front(value);
    if (!c.valid) {
      out += "\\ufffd";
    } else if (c.code_point == '"' || c.code_point == '\\') {
      out += '\\';
      out += static_cast<char>(c.code_point);
    } else if (c.code_point == '\n') {
      out += "\\n";
    } else if (IsUnsafe(c.code_point)) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", c.code_point);
    } else {
      out += value.substr(0, c.size);
    }
    value.remove_prefix(c.size);
  }
  out += cut ? "...\"" : "\"";
}

// Whether a text value can stand without quotes.
bool IsBare(std::string_view value) {
  if (value.empty() || value.size() > kMaxValueBytes) return false;
  for (const char c : value) {
    if (c <= 0x20 || c >= 0x7F || c == '"' || c == '\\' || c == '=')
      return false;  // char is signed: also 0x80-0xFF
  }
  return true;
}

void AppendValue(std::string& out, const LogValue& value, bool json) {
  std::visit(
      [&out, json](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string>) {
          if (!json && IsBare(v)) {
            out += v;
          } else {
            AppendQuoted(out, v);
          }
        } else if constexpr (std::is_same_v<T, double>) {
          if (json && !std::isfinite(v)) {
            out += "null";  // JSON has no NaN and no infinity
          } else {
            fmt::format_to(std::back_inserter(out), "{}", v);
          }
        } else {
          fmt::format_to(std::back_inserter(out), "{}", v);
        }
      },
      value.value());
}

std::string TextLine(std::string_view event, LogFields fields) {
  std::string line(event);
  for (const auto& [key, value] : fields) {
    line += ' ';
    line += key;
    line += '=';
    AppendValue(line, value, /*json=*/false);
  }
  return line;
}

std::string JsonMembers(std::string_view event, LogFields fields) {
  std::string line = "\"event\":";
  AppendQuoted(line, event);
  for (const auto& [key, value] : fields) {
    line += ',';
    AppendQuoted(line, key);
    line += ':';
    AppendValue(line, value, /*json=*/true);
  }
  return line;
}

constexpr std::pair<std::string_view, LogLevel> kLevels[] = {{"trace", LogLevel::kTrace},
                                                             {"debug", LogLevel::kDebug},
                                                             {"info", LogLevel::kInfo},
                                                             {"warn", LogLevel::kWarn},
                                                             {"error", LogLevel::kError}};

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

absl::Status SetUpLogging(std::string_view level, std::string_view format) {
  if (format != "text" && format != "json") {
    return absl::InvalidArgumentError(
        fmt::format("log-format is \"{}\"; it is text or json", format));
  }
  for (const auto& [name, value] : kLevels) {
    if (name != level) continue;
    json_lines.store(format == "json");
    Logger().set_formatter(Formatter(format == "json" ? kJsonPattern : kTextPattern));
    Logger().set_level(SpdlogLevel(value));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("log-level is \"{}\"; it is trace, debug, info, warn or error", level));
}

bool Logs(LogLevel level) { return Logger().should_log(SpdlogLevel(level)); }

void Log(LogLevel level, std::string_view event, LogFields fields) {
  const spdlog::level::level_enum spdlog_level = SpdlogLevel(level);
  spdlog::logger& logger = Logger();
  if (!logger.should_log(spdlog_level)) return;
  const std::string line = json_lines.load() ? JsonMembers(event, fields) : TextLine(event, fields);
  logger.log(spdlog_level, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace sluice
