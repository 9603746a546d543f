#include "model/safetensors_header.h"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>

namespace sluice {
namespace {

namespace json = boost::json;

std::optional<SafetensorsType> TypeOf(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(SafetensorsType::kBool); ++i) {
    const auto type = static_cast<SafetensorsType>(i);
    if (SafetensorsTypeName(type) == name) return type;
  }
  return std::nullopt;
}

// What Boost.JSON's parser calls for each token. Depth 1 is the table of tensors, depth 2 a tensor
// or the free "__metadata__", depth 3 a shape or a range. False ends the parse; refusal says why.
// NOLINTBEGIN(readability-identifier-naming): the names are Boost's.
class Handler {
 public:
  static constexpr size_t max_object_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_array_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_key_size = SafetensorsLimits::kMaxNameBytes;
  static constexpr size_t max_string_size = std::numeric_limits<size_t>::max();

  bool on_document_begin(json::error_code&) { return true; }
  bool on_document_end(json::error_code&) { return true; }
  bool on_object_begin(json::error_code& ec) {
    ++depth_;
    if (depth_ == 1) return true;
    if (depth_ == 3) return Refuse(ec, fmt::format("{} holds an object", Where()));
    return true;
  }
  bool on_object_end(size_t, json::error_code& ec) {
    --depth_;
    if (depth_ != 1 || in_metadata_) {
      in_metadata_ = false;
      return true;
    }
    if (!has_type_ || num_shapes_ != 1 || num_ranges_ != 1) {
      return Refuse(ec, fmt::format("{} needs one dtype, one shape and one data_offsets", Where()));
    }
    entries.push_back(std::move(entry_));
    return true;
  }
  bool on_array_begin(json::error_code& ec) {
    if (depth_ != 2 || in_metadata_ || (key_ != "shape" && key_ != "data_offsets")) {
      return Refuse(ec, fmt::format("{} holds an unexpected array", Where()));
    }
    in_shape_ = key_ == "shape";
    ++(in_shape_ ? num_shapes_ : num_ranges_);
    num_numbers_ = 0;
    ++depth_;
    return true;
  }
  bool on_array_end(size_t, json::error_code& ec) {
    --depth_;
    if (in_shape_) {
      entry_.tensor.num_dims = num_numbers_;
      return true;
    }
    if (num_numbers_ == 2) return true;
    return Refuse(ec, fmt::format("{} has {} data_offsets; 2 are needed", Where(), num_numbers_));
  }
  bool on_key_part(json::string_view part, size_t, json::error_code&) {
    key_part_.append(part.data(), part.size());
    return true;
  }
  bool on_key(json::string_view part, size_t, json::error_code& ec) {
    key_part_.append(part.data(), part.size());
    key_ = std::exchange(key_part_, {});
    if (depth_ != 1) return true;
    in_metadata_ = key_ == "__metadata__";
    if (in_metadata_) return true;
    if (key_.empty()) return Refuse(ec, "a tensor's name is empty");
    if (entries.size() >= SafetensorsLimits::kMaxTensors) {
      return Refuse(ec,
                    fmt::format("there are more than {} tensors", SafetensorsLimits::kMaxTensors));
    }
    entry_ = {};
    entry_.tensor.name = key_;
    has_type_ = false;
    num_shapes_ = num_ranges_ = 0;
    return true;
  }
  bool on_string_part(json::string_view part, size_t, json::error_code&) {
    if (!in_metadata_ && string_.size() < 64) string_.append(part.substr(0, 64));
    return true;
  }
  bool on_string(json::string_view part, size_t, json::error_code& ec) {
    if (in_metadata_ && depth_ == 2) return true;
    string_.append(part.substr(0, 64));
    const std::string text = std::exchange(string_, {});
    if (depth_ != 2 || key_ != "dtype") {
      return Refuse(ec, fmt::format("{} holds an unexpected string", Where()));
    }
    const std::optional<SafetensorsType> type = TypeOf(text);
    if (!type.has_value()) {
      unknown_type = true;
      return Refuse(ec,
                    fmt::format("{} has the unknown dtype '{}'", Where(), QuoteForMessage(text)));
    }
    entry_.tensor.type = *type;
    has_type_ = true;
    return true;
  }
  bool on_number_part(json::string_view, json::error_code&) { return true; }
  bool on_int64(int64_t value, json::string_view, json::error_code& ec) {
    if (value < 0) return Refuse(ec, fmt::format("{} has the number {}", Where(), value));
    return Number(static_cast<uint64_t>(value), ec);
  }
  bool on_uint64(uint64_t value, json::string_view, json::error_code& ec) {
    return Number(value, ec);
  }
  bool on_double(double value, json::string_view, json::error_code& ec) {
    return Refuse(ec,
                  fmt::format("{} has the number {}; whole numbers are needed", Where(), value));
  }
  bool on_bool(bool value, json::error_code& ec) {
    return Refuse(ec, fmt::format("{} holds {}", Where(), value));
  }
  bool on_null(json::error_code& ec) { return Refuse(ec, fmt::format("{} holds null", Where())); }
  bool on_comment_part(json::string_view, json::error_code&) { return true; }
  bool on_comment(json::string_view, json::error_code&) { return true; }

  std::string refusal;
  bool unknown_type = false;
  std::vector<SafetensorsEntry> entries;

 private:
  bool Refuse(json::error_code& ec, std::string why) {
    refusal = std::move(why);
    ec = json::error::exception;  // any error ends the parse
    return false;
  }
  [[nodiscard]] std::string Where() const {
    if (depth_ < 1) return "the header";
    if (in_metadata_) return "'__metadata__'";
    const std::string& name = depth_ == 1 ? key_ : entry_.tensor.name;
    return fmt::format("tensor '{}'", QuoteForMessage(name));
  }
  bool Number(uint64_t value, json::error_code& ec) {
    if (depth_ != 3) return Refuse(ec, fmt::format("{} holds an unexpected number", Where()));
    const int max = in_shape_ ? kMaxTensorDims : 2;
    if (num_numbers_ == max) {
      return Refuse(ec, fmt::format("{} has more than {} {}", Where(), max,
                                    in_shape_ ? "dimensions" : "data_offsets"));
    }
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Refuse(ec, fmt::format("{} has the number {}", Where(), value));
    }
    if (in_shape_) {
      entry_.tensor.dims[num_numbers_] = static_cast<int64_t>(value);
    } else {
      (num_numbers_ == 0 ? entry_.begin : entry_.end) = value;
    }
    ++num_numbers_;
    return true;
  }

  int depth_ = 0;
  bool in_metadata_ = false, in_shape_ = false, has_type_ = false;
  int num_numbers_ = 0, num_shapes_ = 0, num_ranges_ = 0;
  std::string key_, key_part_, string_;
  SafetensorsEntry entry_;
};
// NOLINTEND(readability-identifier-naming)

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(std::string_view text,
                                                                    std::string_view file) {
  json::parse_options options;
  options.max_depth = 3;
  json::basic_parser<Handler> parser(options);
  json::error_code ec;
  // The format begins the header with '{' and may pad it with spaces.
  if (!text.starts_with('{')) {
    return absl::InvalidArgumentError(fmt::format("{}: the header is not a JSON object", file));
  }
  const size_t taken = parser.write_some(false, text.data(), text.size(), ec);
  Handler& handler = parser.handler();
  if (!handler.refusal.empty()) {
    const std::string message = fmt::format("{}: {}", file, handler.refusal);
    return handler.unknown_type ? absl::UnimplementedError(message)
                                : absl::InvalidArgumentError(message);
  }
  if (ec) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the header is not valid JSON: {} at byte {}", file, ec.message(), taken));
  }
  if (taken != text.size()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the header goes on after its JSON at byte {}", file, taken));
  }
  return std::move(handler.entries);
}

}  // namespace sluice
