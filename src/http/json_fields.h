// Reading a client's JSON object: a field is absent, right, or refused with its name.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace sluice {

// Parses `body` and calls `read` with its object, which lives only during the call. Strict JSON in
// valid UTF-8; of equal keys the last one counts. Errors: InvalidArgument for anything malformed
// (lone surrogates, numbers beyond double, nesting deeper than `max_depth`, something after the
// object), or what `read` returns.
absl::Status ReadJsonObject(std::string_view body, int max_depth,
                            const std::function<absl::Status(const boost::json::object&)>& read);

// Typed access to an object's fields. null counts as absent. The first refusal stays in status();
// readers may go on after it, so that one check at the end is enough.
class JsonFields {
 public:
  // `path`: prefix of the names in refusals: "stream_options.".
  explicit JsonFields(const boost::json::object& object, std::string path = "")
      : object_(object), path_(std::move(path)) {}

  // nullptr: absent or null.
  [[nodiscard]] const boost::json::value* Find(std::string_view name) const;
  std::optional<bool> Boolean(std::string_view name);
  std::optional<double> Number(std::string_view name);
  // Whole numbers, 5.0 included. true and false are no numbers.
  std::optional<int64_t> Integer(std::string_view name);
  std::optional<int64_t> IntegerIn(std::string_view name, int64_t low,
                                   int64_t high);  // [low, high]
  const boost::json::string* String(std::string_view name);
  const boost::json::array* Array(std::string_view name);
  const boost::json::object* Object(std::string_view name);

  void Refuse(std::string_view name, std::string_view message, std::string_view code = "");
  // For a feature that is known but not there. Code "not_implemented".
  void RefuseUnsupported(std::string_view name, std::string_view what);
  void Fail(absl::Status status);  // one made elsewhere
  [[nodiscard]] std::string Path(std::string_view name) const { return path_ + std::string(name); }
  [[nodiscard]] const absl::Status& status() const { return status_; }
  [[nodiscard]] bool ok() const { return status_.ok(); }

 private:
  const boost::json::object& object_;
  const std::string path_;
  absl::Status status_;
};

// A whole number in int64's range, or nothing.
std::optional<int64_t> AsInteger(const boost::json::value& value);

}  // namespace sluice
