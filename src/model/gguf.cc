#include "model/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "base/check.h"
#include "base/status_macros.h"
#include "model/gguf_parser.h"

namespace sluice {
namespace {

template <typename T>
T Load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

// An integer of any width; nullopt for other types and for a u64 beyond int64.
std::optional<int64_t> ToInt(GgufType type, const char* bytes) {
  switch (type) {
    case GgufType::kUint8:
      return Load<uint8_t>(bytes);
    case GgufType::kInt8:
      return Load<int8_t>(bytes);
    case GgufType::kUint16:
      return Load<uint16_t>(bytes);
    case GgufType::kInt16:
      return Load<int16_t>(bytes);
    case GgufType::kUint32:
      return Load<uint32_t>(bytes);
    case GgufType::kInt32:
      return Load<int32_t>(bytes);
    case GgufType::kInt64:
      return Load<int64_t>(bytes);
    case GgufType::kUint64: {
      const auto value = Load<uint64_t>(bytes);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> ToFloat(GgufType type, const char* bytes) {
  if (type == GgufType::kFloat32) return static_cast<double>(Load<float>(bytes));
  if (type == GgufType::kFloat64) return Load<double>(bytes);
  return std::nullopt;
}

}  // namespace

std::string_view GgufTypeName(GgufType type) {
  constexpr std::string_view kNames[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                         "int32",  "float32", "bool",   "string", "array",
                                         "uint64", "int64",   "float64"};
  return kNames[static_cast<uint32_t>(type)];
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  auto file = std::unique_ptr<GgufFile>(new GgufFile(mapped.bytes(), path));
  file->mapping_ = std::move(mapped);
  RETURN_IF_ERROR(GgufParser(*file).Run());
  RETURN_IF_ERROR(file->OpenOtherParts());
  return file;
}

absl::StatusOr<std::unique_ptr<GgufFile>> GgufFile::Parse(std::span<const uint8_t> bytes,
                                                          std::string_view name) {
  SLUICE_CHECK(reinterpret_cast<uintptr_t>(bytes.data()) % 8 == 0, "bytes begin at {}",
               fmt::ptr(bytes.data()));
  auto file = std::unique_ptr<GgufFile>(new GgufFile(bytes, std::string(name)));
  RETURN_IF_ERROR(GgufParser(*file).Run());
  return file;
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto it = std::ranges::lower_bound(metadata_, key, {}, &GgufMetadata::key);
  return it != metadata_.end() && it->key == key ? &it->value : nullptr;
}

absl::Status GgufFile::KeyError(std::string_view key, std::string_view message) const {
  return absl::InvalidArgumentError(
      fmt::format("{}: key '{}' {}", name(), QuoteForMessage(key), message));
}

absl::StatusOr<const GgufValue*> GgufFile::Need(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr)
    return absl::NotFoundError(
        fmt::format("{}: key '{}' is missing", name(), QuoteForMessage(key)));
  return value;
}

absl::StatusOr<const GgufValue*> GgufFile::NeedArray(std::string_view key,
                                                     uint64_t max_count) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Need(key));
  if (value->type != GgufType::kArray) {
    return KeyError(key, fmt::format("has type {}; an array is needed", GgufTypeName(value->type)));
  }
  if (value->count > max_count) {
    return KeyError(
        key, fmt::format("has {} elements; at most {} are allowed", value->count, max_count));
  }
  return value;
}

absl::StatusOr<int64_t> GgufFile::GetInt(std::string_view key, int64_t min, int64_t max) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Need(key));
  const std::optional<int64_t> number = ToInt(value->type, value->bytes.data());
  if (!number.has_value() && value->type != GgufType::kUint64) {
    return KeyError(key,
                    fmt::format("has type {}; an integer is needed", GgufTypeName(value->type)));
  }
  if (!number.has_value() || *number < min || *number > max) {
    const std::string shown = number.has_value()
                                  ? fmt::format("{}", *number)
                                  : fmt::format("{}", Load<uint64_t>(value->bytes.data()));
    return KeyError(key, fmt::format("is {}; must be in [{}, {}]", shown, min, max));
  }
  return *number;
}

absl::StatusOr<int64_t> GgufFile::GetIntOr(std::string_view key, int64_t min, int64_t max,
                                           int64_t otherwise) const {
  if (Find(key) == nullptr) return otherwise;
  return GetInt(key, min, max);
}

absl::StatusOr<double> GgufFile::GetFloat(std::string_view key, double min, double max) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Need(key));
  const std::optional<double> number = ToFloat(value->type, value->bytes.data());
  if (!number.has_value()) {
    return KeyError(key, fmt::format("has type {}; a float is needed", GgufTypeName(value->type)));
  }
  // Written so that NaN is outside.
  if (!(*number >= min && *number <= max)) {
    return KeyError(key, fmt::format("is {}; must be in [{}, {}]", *number, min, max));
  }
  return *number;
}

absl::StatusOr<double> GgufFile::GetFloatOr(std::string_view key, double min, double max,
                                            double otherwise) const {
  if (Find(key) == nullptr) return otherwise;
  return GetFloat(key, min, max);
}

absl::StatusOr<bool> GgufFile::GetBoolOr(std::string_view key, bool otherwise) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return otherwise;
  if (value->type != GgufType::kBool) {
    return KeyError(key, fmt::format("has type {}; a bool is needed", GgufTypeName(value->type)));
  }
  return value->bytes[0] != 0;
}

absl::StatusOr<std::string_view> GgufFile::GetString(std::string_view key) const {
  ASSIGN_OR_RETURN(const GgufValue* value, Need(key));
  if (value->type != GgufType::kString) {
    return KeyError(key, fmt::format("has type {}; a string is needed", GgufTypeName(value->type)));
  }
  return value->bytes;
}

absl::StatusOr<std::string_view> GgufFile::GetStringOr(std::string_view key,
                                                       std::string_view otherwise) const {
  if (Find(key) == nullptr) return otherwise;
  return GetString(key);
}

absl::StatusOr<std::vector<std::string_view>> GgufFile::GetStrings(std::string_view key,
                                                                   uint64_t max_count) const {
  ASSIGN_OR_RETURN(const GgufValue* value, NeedArray(key, max_count));
  if (value->element_type != GgufType::kString) {
    return KeyError(key, fmt::format("is an array of {}; strings are needed",
                                     GgufTypeName(value->element_type)));
  }
  std::vector<std::string_view> strings(value->count);
  const char* next = value->bytes.data();  // the parser has walked over these lengths already
  for (std::string_view& s : strings) {
    const auto length = Load<uint64_t>(next);
    s = {next + sizeof(length), length};
    next += sizeof(length) + length;
  }
  return strings;
}

absl::StatusOr<std::vector<int64_t>> GgufFile::GetInts(std::string_view key,
                                                       uint64_t max_count) const {
  ASSIGN_OR_RETURN(const GgufValue* value, NeedArray(key, max_count));
  const uint64_t element_bytes = GgufScalarBytes(value->element_type);
  std::vector<int64_t> ints;
  ints.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const std::optional<int64_t> number =
        ToInt(value->element_type, value->bytes.data() + i * element_bytes);
    if (!number.has_value()) {
      return KeyError(key, fmt::format("is an array of {} with element {} not a 64-bit integer",
                                       GgufTypeName(value->element_type), i));
    }
    ints.push_back(*number);
  }
  return ints;
}

absl::StatusOr<std::vector<float>> GgufFile::GetFloats(std::string_view key,
                                                       uint64_t max_count) const {
  ASSIGN_OR_RETURN(const GgufValue* value, NeedArray(key, max_count));
  if (value->element_type != GgufType::kFloat32) {
    return KeyError(key, fmt::format("is an array of {}; float32 is needed",
                                     GgufTypeName(value->element_type)));
  }
  std::vector<float> floats(value->count);
  if (!floats.empty()) std::memcpy(floats.data(), value->bytes.data(), value->bytes.size());
  return floats;
}

}  // namespace sluice
