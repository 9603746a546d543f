#include "http/json_fields.h"

#include <fmt/format.h>

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/parser.hpp>
#include <cmath>
#include <exception>
#include <limits>

#include "base/errors.h"

namespace sluice {
namespace {

absl::Status Malformed(std::string_view why) {
  return WithErrorCode(
      absl::InvalidArgumentError(fmt::format("the request body is not valid JSON: {}", why)),
      "invalid_json");
}

absl::Status ParseError(const boost::json::error_code& error, size_t position, int max_depth) {
  if (error == boost::json::error::too_deep) {
    return Malformed(fmt::format("nesting is deeper than {} levels", max_depth));
  }
  return Malformed(fmt::format("{} at byte {}", error.message(), position));
}

}  // namespace

absl::Status ReadJsonObject(std::string_view body, int max_depth,
                            const std::function<absl::Status(const boost::json::object&)>& read) {
  boost::json::monotonic_resource memory;
  try {
    boost::json::parse_options options;
    options.max_depth = static_cast<size_t>(max_depth);
    boost::json::parser parser(&memory, options);
    boost::json::error_code error;
    const size_t taken = parser.write_some(body.data(), body.size(), error);
    if (error) return ParseError(error, taken, max_depth);
    if (taken != body.size()) return Malformed(fmt::format("extra data at byte {}", taken));
    const boost::json::value value = parser.release();
    if (!value.is_object()) return Malformed("it must be an object");
    return read(value.get_object());
  } catch (const std::exception& e) {
    return absl::ResourceExhaustedError(
        fmt::format("the request body cannot be read: {}", e.what()));
  }
}

std::optional<int64_t> AsInteger(const boost::json::value& value) {
  if (value.is_int64()) return value.get_int64();
  // Boost parses what exceeds int64 as uint64, so a uint64 is never in range.
  if (!value.is_double()) return std::nullopt;
  const double number = value.get_double();
  // 2^63 itself is one too many; every whole double below it converts exactly.
  constexpr double kLimit = 9223372036854775808.0;
  if (!(number >= -kLimit && number < kLimit) || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

const boost::json::value* JsonFields::Find(std::string_view name) const {
  const boost::json::value* value = object_.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::optional<bool> JsonFields::Boolean(std::string_view name) {
  const boost::json::value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_bool()) return value->get_bool();
  Refuse(name, fmt::format("{} must be true or false", Path(name)));
  return std::nullopt;
}

std::optional<double> JsonFields::Number(std::string_view name) {
  const boost::json::value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_double() && std::isfinite(value->get_double())) return value->get_double();
  if (value->is_int64()) return static_cast<double>(value->get_int64());
  if (value->is_uint64()) return static_cast<double>(value->get_uint64());
  Refuse(name, fmt::format("{} must be a number", Path(name)));
  return std::nullopt;
}

std::optional<int64_t> JsonFields::Integer(std::string_view name) {
  return IntegerIn(name, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
}

std::optional<int64_t> JsonFields::IntegerIn(std::string_view name, int64_t low, int64_t high) {
  const boost::json::value* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = AsInteger(*value);
  if (!number) {
    const bool numeric = value->is_number();
    Refuse(name, fmt::format("{} must be an integer{}", Path(name), numeric ? " of 64 bits" : ""));
  } else if (*number < low || *number > high) {
    Refuse(name,
           fmt::format("{} is {}; it must be between {} and {}", Path(name), *number, low, high));
    return std::nullopt;
  }
  return number;
}

const boost::json::string* JsonFields::String(std::string_view name) {
  const boost::json::value* value = Find(name);
  if (value != nullptr && !value->is_string())
    Refuse(name, fmt::format("{} must be a string", Path(name)));
  return value == nullptr ? nullptr : value->if_string();
}

const boost::json::array* JsonFields::Array(std::string_view name) {
  const boost::json::value* value = Find(name);
  if (value != nullptr && !value->is_array())
    Refuse(name, fmt::format("{} must be an array", Path(name)));
  return value == nullptr ? nullptr : value->if_array();
}

const boost::json::object* JsonFields::Object(std::string_view name) {
  const boost::json::value* value = Find(name);
  if (value != nullptr && !value->is_object())
    Refuse(name, fmt::format("{} must be an object", Path(name)));
  return value == nullptr ? nullptr : value->if_object();
}

void JsonFields::Refuse(std::string_view name, std::string_view message, std::string_view code) {
  Fail(FieldError(Path(name), message, code));
}

void JsonFields::RefuseUnsupported(std::string_view name, std::string_view what) {
  Refuse(name, fmt::format("{} is not supported", what), "not_implemented");
}

void JsonFields::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

}  // namespace sluice
