#include "model/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "model/safetensors_header.h"

namespace sluice {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are read in place");

struct TypeInfo {
  std::string_view name;
  int64_t bytes;
};
constexpr TypeInfo kTypes[] = {{"F64", 8},     {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1},
                               {"F8_E5M2", 1}, {"I64", 8}, {"I32", 4}, {"I16", 2},  {"I8", 1},
                               {"U64", 8},     {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1}};

}  // namespace

std::string_view SafetensorsTypeName(SafetensorsType type) {
  return kTypes[static_cast<int>(type)].name;
}
int64_t SafetensorsTypeBytes(SafetensorsType type) { return kTypes[static_cast<int>(type)].bytes; }

std::string SafetensorsTensor::ShapeString() const {
  return fmt::format("[{}]", fmt::join(dims, dims + num_dims, ", "));
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  ASSIGN_OR_RETURN(SafetensorsFile file, Parse(mapped.bytes(), path));
  file.mapping_ = std::move(mapped);
  return file;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Parse(std::span<const uint8_t> bytes,
                                                       std::string name) {
  SafetensorsFile file;
  file.name_ = std::move(name);
  file.bytes_ = bytes;
  RETURN_IF_ERROR(file.Read());
  return file;
}

absl::Status SafetensorsFile::Bad(std::string_view message) const {
  return absl::InvalidArgumentError(fmt::format("{}: {}", name_, message));
}

absl::Status SafetensorsFile::Read() {
  uint64_t header_bytes = 0;
  if (bytes_.size() < sizeof(header_bytes)) {
    return Bad(fmt::format("the file has {} bytes; its header's length needs 8", bytes_.size()));
  }
  std::memcpy(&header_bytes, bytes_.data(), sizeof(header_bytes));
  const uint64_t left = bytes_.size() - sizeof(header_bytes);
  if (header_bytes > std::min<uint64_t>(left, SafetensorsLimits::kMaxHeaderBytes)) {
    return Bad(
        fmt::format("the header claims {} bytes; the file has {} more and at most {} are allowed",
                    header_bytes, left, SafetensorsLimits::kMaxHeaderBytes));
  }
  header_ = {reinterpret_cast<const char*>(bytes_.data()) + sizeof(header_bytes), header_bytes};
  return PlaceTensors(sizeof(header_bytes) + header_bytes);
}

// The format leaves no hole: in the order of their data the tensors follow each other from the
// first byte to the last, which also keeps them from overlapping.
absl::Status SafetensorsFile::PlaceTensors(uint64_t data_begin) {
  ASSIGN_OR_RETURN(std::vector<SafetensorsEntry> entries, ReadSafetensorsHeader(header_, name_));
  const uint64_t data_bytes = bytes_.size() - data_begin;
  std::ranges::sort(entries, [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t next = 0;
  tensors_.reserve(entries.size());
  for (SafetensorsEntry& entry : entries) {
    SafetensorsTensor& tensor = entry.tensor;
    const std::string_view type = SafetensorsTypeName(tensor.type);
    if (entry.begin > entry.end || entry.end > data_bytes) {
      return Bad(
          fmt::format("tensor '{}' has data_offsets [{}, {}]; the file holds {} bytes of data",
                      QuoteForMessage(tensor.name), entry.begin, entry.end, data_bytes));
    }
    if (entry.begin != next) {
      return Bad(fmt::format(
          "tensor '{}' begins at {} of the data, {} {}", QuoteForMessage(tensor.name), entry.begin,
          entry.begin < next ? "inside another, which ends at" : "after a hole, which begins at",
          next));
    }
    next = entry.end;
    uint64_t elements = 1;
    const uint64_t size = entry.end - entry.begin;
    for (int i = 0; i < tensor.num_dims; ++i) {
      const auto dim = static_cast<uint64_t>(tensor.dims[i]);
      // More than the file could hold is as wrong as any other number, and cannot overflow.
      elements = dim != 0 && elements > (size + 1) / dim ? size + 1 : elements * dim;
    }
    if (elements > size ||
        elements * static_cast<uint64_t>(SafetensorsTypeBytes(tensor.type)) != size) {
      return Bad(fmt::format("tensor '{}' has shape {} of {} in {} bytes",
                             QuoteForMessage(tensor.name), tensor.ShapeString(), type, size));
    }
    tensor.data = bytes_.data() + data_begin + entry.begin;
    tensor.num_bytes = static_cast<int64_t>(size);
    tensors_.push_back(std::move(tensor));
  }
  if (next != data_bytes) {
    return Bad(fmt::format("the tensors end at {} of {} bytes of data", next, data_bytes));
  }
  std::ranges::sort(tensors_, {}, &SafetensorsTensor::name);
  const auto twin = std::ranges::adjacent_find(tensors_, {}, &SafetensorsTensor::name);
  if (twin == tensors_.end()) return absl::OkStatus();
  return Bad(fmt::format("tensor '{}' stands in the file twice", QuoteForMessage(twin->name)));
}

}  // namespace sluice
