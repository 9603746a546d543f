#include "model/hf_json.h"

#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/parser.hpp>
#include <boost/json/string.hpp>
#include <cmath>
#include <exception>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "model/mapped_file.h"
#include "model/tensor_table.h"

namespace sluice {
namespace {

namespace json = boost::json;

std::string_view KindName(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "bool";
    case json::kind::int64:
    case json::kind::uint64:
      return "integer";
    case json::kind::double_:
      return "number";
    case json::kind::string:
      return "string";
    case json::kind::array:
      return "array";
    case json::kind::object:
      return "object";
  }
  return "value";
}

std::optional<int64_t> ToInt(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (!value.is_double()) return std::nullopt;  // uint64: Boost's type for what int64 cannot hold
  const double number = value.get_double();
  if (!(std::abs(number) <= 1e15) || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::optional<double> ToFloat(const json::value& value) {
  if (value.is_double()) return value.get_double();
  if (value.is_int64()) return static_cast<double>(value.get_int64());
  if (value.is_uint64()) return static_cast<double>(value.get_uint64());
  return std::nullopt;
}

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }

}  // namespace

const json::value* HfObject::Find(std::string_view key) const {
  const json::value* value = object_->if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::string HfObject::Path(std::string_view key) const {
  return QuoteForMessage(prefix_ + std::string(key));
}

absl::Status HfObject::KeyError(std::string_view key, std::string_view message) const {
  return absl::InvalidArgumentError(fmt::format("{}: key '{}' {}", *source_, Path(key), message));
}

absl::Status HfObject::Unsupported(std::string_view key, std::string_view message) const {
  return absl::UnimplementedError(fmt::format("{}: key '{}' {}", *source_, Path(key), message));
}

absl::StatusOr<const json::value*> HfObject::Need(std::string_view key) const {
  const json::value* value = Find(key);
  if (value == nullptr) {
    return absl::NotFoundError(fmt::format("{}: key '{}' is missing", *source_, Path(key)));
  }
  return value;
}

absl::StatusOr<int64_t> HfObject::GetInt(std::string_view key, int64_t min, int64_t max) const {
  ASSIGN_OR_RETURN(const json::value* value, Need(key));
  if (!value->is_number()) {
    return KeyError(key, fmt::format("is of type {}; an integer is needed", KindName(*value)));
  }
  const std::optional<int64_t> number = ToInt(*value);
  if (!number.has_value() || *number < min || *number > max) {
    return KeyError(key, fmt::format("is {}; must be a whole number in [{}, {}]",
                                     number.has_value() ? static_cast<double>(*number)
                                                        : ToFloat(*value).value_or(0),
                                     min, max));
  }
  return *number;
}

absl::StatusOr<int64_t> HfObject::GetIntOr(std::string_view key, int64_t min, int64_t max,
                                           int64_t otherwise) const {
  if (!Has(key)) return otherwise;
  return GetInt(key, min, max);
}

absl::StatusOr<double> HfObject::GetFloat(std::string_view key, double min, double max) const {
  ASSIGN_OR_RETURN(const json::value* value, Need(key));
  const std::optional<double> number = ToFloat(*value);
  if (!number.has_value()) {
    return KeyError(key, fmt::format("is of type {}; a number is needed", KindName(*value)));
  }
  if (!(*number >= min && *number <= max)) {
    return KeyError(key, fmt::format("is {}; must be in [{}, {}]", *number, min, max));
  }
  return *number;
}

absl::StatusOr<double> HfObject::GetFloatOr(std::string_view key, double min, double max,
                                            double otherwise) const {
  if (!Has(key)) return otherwise;
  return GetFloat(key, min, max);
}

absl::StatusOr<bool> HfObject::GetBoolOr(std::string_view key, bool otherwise) const {
  const json::value* value = Find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_bool()) {
    return KeyError(key, fmt::format("is of type {}; a bool is needed", KindName(*value)));
  }
  return value->get_bool();
}

absl::StatusOr<std::string_view> HfObject::GetString(std::string_view key) const {
  ASSIGN_OR_RETURN(const json::value* value, Need(key));
  if (!value->is_string()) {
    return KeyError(key, fmt::format("is of type {}; a string is needed", KindName(*value)));
  }
  return View(value->get_string());
}

absl::StatusOr<std::string_view> HfObject::GetStringOr(std::string_view key,
                                                       std::string_view otherwise) const {
  if (!Has(key)) return otherwise;
  return GetString(key);
}

absl::StatusOr<std::vector<double>> HfObject::GetFloats(std::string_view key, double min,
                                                        double max, size_t max_count) const {
  ASSIGN_OR_RETURN(const json::value* value, Need(key));
  const json::array* array = value->if_array();
  if (array == nullptr || array->size() > max_count) {
    return KeyError(key, fmt::format("must be an array of at most {} numbers", max_count));
  }
  std::vector<double> numbers;
  for (const json::value& element : *array) {
    const std::optional<double> number = ToFloat(element);
    if (!number.has_value() || !(*number >= min && *number <= max)) {
      return KeyError(key, fmt::format("has element {}, which must be a number in [{}, {}]",
                                       numbers.size(), min, max));
    }
    numbers.push_back(*number);
  }
  return numbers;
}

absl::StatusOr<std::vector<std::string_view>> HfObject::GetStrings(std::string_view key,
                                                                   size_t max_count) const {
  ASSIGN_OR_RETURN(const json::value* value, Need(key));
  const json::array* array = value->if_array();
  if (array == nullptr || array->size() > max_count) {
    return KeyError(key, fmt::format("must be an array of at most {} strings", max_count));
  }
  std::vector<std::string_view> strings;
  for (const json::value& element : *array) {
    if (!element.is_string()) {
      return KeyError(key, fmt::format("has element {}, which must be a string", strings.size()));
    }
    strings.push_back(View(element.get_string()));
  }
  return strings;
}

absl::StatusOr<HfObject> HfObject::GetObject(std::string_view key) const {
  ASSIGN_OR_RETURN(const json::value* value, Need(key));
  if (!value->is_object()) {
    return KeyError(key, fmt::format("is of type {}; an object is needed", KindName(*value)));
  }
  return HfObject(*source_, value->get_object(), fmt::format("{}{}.", prefix_, key));
}

absl::StatusOr<HfJson> HfJson::Open(const std::string& path, int64_t max_bytes) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const auto size = static_cast<int64_t>(file.bytes().size());
  if (size > max_bytes) {
    return absl::InvalidArgumentError(
        fmt::format("{}: has {} bytes; at most {} are allowed", path, size, max_bytes));
  }
  return Parse({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path);
}

absl::StatusOr<HfJson> HfJson::Parse(std::string_view text, std::string source) {
  HfJson out;
  out.source_ = std::make_unique<const std::string>(std::move(source));
  out.memory_ = std::make_unique<json::monotonic_resource>();
  const auto bad = [&](std::string_view why) {
    return absl::InvalidArgumentError(fmt::format("{}: not valid JSON: {}", *out.source_, why));
  };
  try {
    json::parse_options options;
    options.max_depth = kMaxDepth;
    json::parser parser(out.memory_.get(), options);
    json::error_code error;
    const size_t taken = parser.write_some(text.data(), text.size(), error);
    if (error == json::error::too_deep) {
      return bad(fmt::format("nesting is deeper than {} levels", kMaxDepth));
    }
    if (error) return bad(fmt::format("{} at byte {}", error.message(), taken));
    if (taken != text.size()) return bad(fmt::format("extra data at byte {}", taken));
    out.value_ = std::make_unique<json::value>(parser.release());
  } catch (const std::exception& e) {
    return bad(e.what());
  }
  if (!out.value_->is_object()) return bad("an object is needed");
  return out;
}

}  // namespace sluice
