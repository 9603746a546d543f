// JSON files of a Hugging Face folder: bounded in size and depth, and typed access to their keys
// with one sentence for everything that is wrong.
#pragma once

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice {

// An object inside a HfJson, which outlives it. null counts as a missing key. Errors of the getters
// are InvalidArgument (NotFound for a key that is missing) and begin with "FILE: key 'PATH' ". The
// *Or forms return `otherwise` for a missing key, and the same errors for a wrong one.
class HfObject {
 public:
  HfObject(const std::string& source, const boost::json::object& object, std::string prefix = "")
      : source_(&source), object_(&object), prefix_(std::move(prefix)) {}

  [[nodiscard]] const std::string& source() const { return *source_; }
  [[nodiscard]] const boost::json::object& object() const { return *object_; }
  [[nodiscard]] const boost::json::value* Find(std::string_view key) const;  // nullptr: missing
  [[nodiscard]] bool Has(std::string_view key) const { return Find(key) != nullptr; }

  // Whole numbers in [min, max]; 5.0 counts as 5.
  [[nodiscard]] absl::StatusOr<int64_t> GetInt(std::string_view key, int64_t min,
                                               int64_t max) const;
  [[nodiscard]] absl::StatusOr<int64_t> GetIntOr(std::string_view key, int64_t min, int64_t max,
                                                 int64_t otherwise) const;
  [[nodiscard]] absl::StatusOr<double> GetFloat(std::string_view key, double min, double max) const;
  [[nodiscard]] absl::StatusOr<double> GetFloatOr(std::string_view key, double min, double max,
                                                  double otherwise) const;
  [[nodiscard]] absl::StatusOr<bool> GetBoolOr(std::string_view key, bool otherwise) const;
  [[nodiscard]] absl::StatusOr<std::string_view> GetString(std::string_view key) const;
  [[nodiscard]] absl::StatusOr<std::string_view> GetStringOr(std::string_view key,
                                                             std::string_view otherwise) const;
  // Arrays of at most max_count elements.
  [[nodiscard]] absl::StatusOr<std::vector<double>> GetFloats(std::string_view key, double min,
                                                              double max, size_t max_count) const;
  [[nodiscard]] absl::StatusOr<std::vector<std::string_view>> GetStrings(std::string_view key,
                                                                         size_t max_count) const;
  [[nodiscard]] absl::StatusOr<HfObject> GetObject(std::string_view key) const;

  // InvalidArgument "FILE: key 'KEY' MESSAGE".
  [[nodiscard]] absl::Status KeyError(std::string_view key, std::string_view message) const;
  // The same as Unimplemented, for what is right but not supported.
  [[nodiscard]] absl::Status Unsupported(std::string_view key, std::string_view message) const;

 private:
  [[nodiscard]] absl::StatusOr<const boost::json::value*> Need(std::string_view key) const;
  [[nodiscard]] std::string Path(std::string_view key) const;

  const std::string* source_;
  const boost::json::object* object_;
  std::string prefix_;  // of keys in messages: "rope_scaling."
};

class HfJson {
 public:
  static constexpr int kMaxDepth = 16;

  // Errors: what the system says; InvalidArgument for more than max_bytes, or for anything but one
  // JSON object.
  static absl::StatusOr<HfJson> Open(const std::string& path, int64_t max_bytes);
  static absl::StatusOr<HfJson> Parse(std::string_view text, std::string source);

  [[nodiscard]] HfObject root() const { return {*source_, value_->get_object()}; }

 private:
  HfJson() = default;
  std::unique_ptr<const std::string> source_;  // by pointer: HfObjects keep pointing at it
  std::unique_ptr<boost::json::monotonic_resource> memory_;
  std::unique_ptr<boost::json::value> value_;  // in memory_
};

}  // namespace sluice
