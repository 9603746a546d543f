#include "model/gguf_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/status_macros.h"

namespace sluice {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are read in place");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
// The least a metadata pair (key length, one character, type, one byte) and a tensor (name length,
// one character, dimension count, one dimension, type, offset) can take: what bounds their counts.
constexpr uint64_t kMinMetadataBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// Names of ggml's tensor types, to refuse one by its name. Empty: never assigned or withdrawn.
constexpr std::string_view kGgmlTypes[] = {
    "F32",     "F16",    "Q4_0",    "Q4_1",  "",       "",      "Q5_0",  "Q5_1",
    "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
    "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
    "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16",  "",
    "",        "",       "TQ1_0",   "TQ2_0", "",       "",      "",      "MXFP4"};

// The types we compute with, by ggml's number.
constexpr std::pair<uint32_t, DType> kSupported[] = {
    {0, DType::kF32},  {1, DType::kF16},  {30, DType::kBF16}, {8, DType::kQ8_0},  {2, DType::kQ4_0},
    {3, DType::kQ4_1}, {6, DType::kQ5_0}, {7, DType::kQ5_1},  {10, DType::kQ2K},  {11, DType::kQ3K},
    {12, DType::kQ4K}, {13, DType::kQ5K}, {14, DType::kQ6K},  {20, DType::kIq4Nl}};

absl::StatusOr<DType> ToDType(uint32_t ggml_type, std::string_view file, std::string_view tensor) {
  std::string supported;
  for (const auto& [number, dtype] : kSupported) {
    if (number == ggml_type) return dtype;
    fmt::format_to(std::back_inserter(supported), "{}{}", supported.empty() ? "" : ", ",
                   GetDTypeInfo(dtype).name);
  }
  const bool known = ggml_type < std::size(kGgmlTypes) && !kGgmlTypes[ggml_type].empty();
  std::string type =
      known ? std::string(kGgmlTypes[ggml_type]) : fmt::format("number {}", ggml_type);
  std::string message = fmt::format("{}: tensor '{}' has type {}; supported types are {}", file,
                                    QuoteForMessage(tensor), type, supported);
  return known ? absl::UnimplementedError(message) : absl::InvalidArgumentError(message);
}

bool IsType(uint32_t type) { return type <= static_cast<uint32_t>(GgufType::kFloat64); }

}  // namespace

uint64_t GgufScalarBytes(GgufType type) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kBytes[static_cast<uint32_t>(type)];
}

template <typename T>
bool GgufParser::Read(T& value) {
  if (left() < sizeof(T)) return false;
  std::memcpy(&value, bytes_.data() + pos_, sizeof(T));
  pos_ += sizeof(T);
  return true;
}

bool GgufParser::ReadString(std::string_view& value) {
  uint64_t length = 0;
  if (!Read(length) || length > left()) return false;
  value = {reinterpret_cast<const char*>(bytes_.data() + pos_), length};
  pos_ += length;
  return true;
}

absl::Status GgufParser::Bad(std::string_view message) const {
  return absl::InvalidArgumentError(fmt::format("{}: {}", file_.name(), message));
}

absl::Status GgufParser::Ends(std::string_view inside) const {
  return Bad(fmt::format("the file ends after {} bytes, inside {}", bytes_.size(), inside));
}

absl::Status GgufParser::Run() {
  RETURN_IF_ERROR(ReadCounts());
  RETURN_IF_ERROR(ReadMetadata());
  RETURN_IF_ERROR(ReadTensors());
  RETURN_IF_ERROR(PlaceTensors());
  return CheckTensorsAreDistinct();
}

absl::Status GgufParser::ReadCounts() {
  uint32_t magic = 0;
  if (!Read(magic)) return Ends("the magic number");
  if (magic != kMagic) return Bad("not a GGUF file: it does not begin with 'GGUF'");
  if (!Read(file_.version_)) return Ends("the version");
  if (file_.version_ == 0x02000000 || file_.version_ == 0x03000000) {
    return absl::UnimplementedError(
        fmt::format("{}: big-endian GGUF; only little-endian files are supported", file_.name()));
  }
  if (file_.version_ != 2 && file_.version_ != 3) {
    return absl::UnimplementedError(fmt::format(
        "{}: GGUF version {}; versions 2 and 3 are supported", file_.name(), file_.version_));
  }
  if (!Read(num_tensors_) || !Read(num_metadata_))
    return Ends("the counts of tensors and metadata");
  const struct {
    std::string_view what;
    uint64_t count, max, min_bytes;
  } kCounts[] = {{"metadata pairs", num_metadata_, GgufLimits::kMaxMetadata, kMinMetadataBytes},
                 {"tensors", num_tensors_, GgufLimits::kMaxTensors, kMinTensorBytes}};
  for (const auto& c : kCounts) {
    if (c.count > c.max)
      return Bad(fmt::format("{} {}; at most {} are allowed", c.count, c.what, c.max));
    if (c.count > left() / c.min_bytes) {
      return Bad(
          fmt::format("{} {} cannot fit in the {} bytes that follow", c.count, c.what, left()));
    }
  }
  return absl::OkStatus();
}

absl::Status GgufParser::ReadMetadata() {
  file_.metadata_.reserve(num_metadata_);
  for (uint64_t i = 0; i < num_metadata_; ++i) {
    GgufMetadata entry;
    if (!ReadString(entry.key)) return Ends(fmt::format("the key of metadata pair {}", i));
    if (entry.key.empty() || entry.key.size() > GgufLimits::kMaxKeyBytes) {
      return Bad(fmt::format("the key of metadata pair {} has {} bytes; 1 to {} are allowed", i,
                             entry.key.size(), GgufLimits::kMaxKeyBytes));
    }
    RETURN_IF_ERROR(ReadValue(entry.key, entry.value));
    file_.metadata_.push_back(entry);
  }
  std::ranges::sort(file_.metadata_, {}, &GgufMetadata::key);
  const auto twin = std::ranges::adjacent_find(file_.metadata_, {}, &GgufMetadata::key);
  if (twin != file_.metadata_.end()) return file_.KeyError(twin->key, "stands in the file twice");

  ASSIGN_OR_RETURN(const int64_t alignment,
                   file_.GetIntOr("general.alignment", GgufLimits::kMinAlignment,
                                  GgufLimits::kMaxAlignment, GgufLimits::kDefaultAlignment));
  alignment_ = static_cast<uint64_t>(alignment);
  if (!std::has_single_bit(alignment_)) {
    return file_.KeyError("general.alignment",
                          fmt::format("is {}; must be a power of two", alignment_));
  }
  return absl::OkStatus();
}

absl::Status GgufParser::ReadValue(std::string_view key, GgufValue& value) {
  uint32_t type = 0;
  if (!Read(type)) return Ends(fmt::format("the type of key '{}'", QuoteForMessage(key)));
  if (!IsType(type))
    return file_.KeyError(key, fmt::format("has value type {}; types are 0 to 12", type));
  value.type = static_cast<GgufType>(type);
  if (value.type == GgufType::kArray) return ReadArray(key, 1, value);
  if (value.type == GgufType::kString) {
    if (!ReadString(value.bytes))
      return Ends(fmt::format("the string of key '{}'", QuoteForMessage(key)));
    return absl::OkStatus();
  }
  const uint64_t begin = pos_;
  RETURN_IF_ERROR(SkipElements(key, 0, value.type, 1));
  value.bytes = {reinterpret_cast<const char*>(bytes_.data() + begin), pos_ - begin};
  return absl::OkStatus();
}

absl::Status GgufParser::ReadArray(std::string_view key, int depth, GgufValue& value) {
  if (depth > GgufLimits::kMaxArrayDepth) {
    return file_.KeyError(key,
                          fmt::format("nests arrays deeper than {}", GgufLimits::kMaxArrayDepth));
  }
  uint32_t type = 0;
  if (!Read(type) || !Read(value.count))
    return Ends(fmt::format("the array of key '{}'", QuoteForMessage(key)));
  if (!IsType(type)) {
    return file_.KeyError(key, fmt::format("has array element type {}; types are 0 to 12", type));
  }
  value.element_type = static_cast<GgufType>(type);
  const uint64_t begin = pos_;
  RETURN_IF_ERROR(SkipElements(key, depth, value.element_type, value.count));
  value.bytes = {reinterpret_cast<const char*>(bytes_.data() + begin), pos_ - begin};
  return absl::OkStatus();
}

// Walks over `count` elements; each takes at least one byte of the file, so the walk is linear in
// its size.
absl::Status GgufParser::SkipElements(std::string_view key, int depth, GgufType type,
                                      uint64_t count) {
  const uint64_t scalar_bytes = GgufScalarBytes(type);
  const uint64_t min_bytes = scalar_bytes > 0 ? scalar_bytes : type == GgufType::kString ? 8 : 12;
  if (count > left() / min_bytes) {
    return file_.KeyError(
        key, fmt::format("has {} elements of type {}, which cannot fit in the {} bytes that follow",
                         count, GgufTypeName(type), left()));
  }
  if (type == GgufType::kString || type == GgufType::kArray) {
    for (uint64_t i = 0; i < count; ++i) {
      GgufValue element;
      if (type == GgufType::kArray) {
        RETURN_IF_ERROR(ReadArray(key, depth + 1, element));
      } else if (!ReadString(element.bytes)) {
        return Ends(fmt::format("string {} of key '{}'", i, QuoteForMessage(key)));
      }
    }
    return absl::OkStatus();
  }
  if (type == GgufType::kBool) {
    const std::span<const uint8_t> bools = bytes_.subspan(pos_, count);
    const auto bad = std::ranges::find_if(bools, [](uint8_t b) { return b > 1; });
    if (bad != bools.end())
      return file_.KeyError(key, fmt::format("has a bool of value {}; 0 or 1 is allowed", *bad));
  }
  pos_ += count * scalar_bytes;
  return absl::OkStatus();
}

absl::Status GgufParser::ReadTensors() {
  if (num_tensors_ > left() / kMinTensorBytes) {
    return Bad(fmt::format("{} tensors cannot fit in the {} bytes that follow the metadata",
                           num_tensors_, left()));
  }
  file_.table_.tensors.resize(num_tensors_);
  offsets_.resize(num_tensors_);
  for (uint64_t i = 0; i < num_tensors_; ++i) {
    RETURN_IF_ERROR(ReadTensor(file_.table_.tensors[i], offsets_[i]));
  }
  file_.header_bytes_ = pos_;
  return absl::OkStatus();
}

absl::Status GgufParser::ReadTensor(ModelTensor& tensor, uint64_t& offset) {
  if (!ReadString(tensor.name)) return Ends("the name of a tensor");
  if (tensor.name.empty() || tensor.name.size() > GgufLimits::kMaxNameBytes) {
    return Bad(fmt::format("a tensor's name has {} bytes; 1 to {} are allowed", tensor.name.size(),
                           GgufLimits::kMaxNameBytes));
  }
  RETURN_IF_ERROR(ReadDims(tensor));
  uint32_t type = 0;
  if (!Read(type) || !Read(offset))
    return Ends(fmt::format("tensor '{}'", QuoteForMessage(tensor.name)));
  ASSIGN_OR_RETURN(tensor.dtype, ToDType(type, file_.name(), tensor.name));
  const DTypeInfo info = GetDTypeInfo(tensor.dtype);
  if (tensor.dims[0] % info.block_elements != 0) {
    return Bad(fmt::format("tensor '{}' has rows of {} elements; {} needs a multiple of {}",
                           QuoteForMessage(tensor.name), tensor.dims[0], info.name,
                           info.block_elements));
  }
  int64_t blocks = tensor.dims[0] / info.block_elements;
  for (int i = 1; i < tensor.num_dims; ++i) blocks *= tensor.dims[i];
  tensor.num_bytes = blocks * info.block_bytes;
  return absl::OkStatus();
}

absl::Status GgufParser::ReadDims(ModelTensor& tensor) {
  const auto in_tensor = [&] { return fmt::format("tensor '{}'", QuoteForMessage(tensor.name)); };
  uint32_t num_dims = 0;
  if (!Read(num_dims)) return Ends(in_tensor());
  if (num_dims < 1 || num_dims > kMaxTensorDims) {
    return Bad(fmt::format("{} has {} dimensions; 1 to {} are allowed", in_tensor(), num_dims,
                           kMaxTensorDims));
  }
  tensor.num_dims = static_cast<int>(num_dims);
  // No element takes less than a quarter of a byte (Q2_K: 84 bytes for 256), so more than 4
  // elements a byte of file is out of range anyway; the bound keeps every later product far from
  // overflow.
  const uint64_t max_elements = 4 * bytes_.size();
  uint64_t elements = 1;
  for (uint32_t i = 0; i < num_dims; ++i) {
    uint64_t dim = 0;
    if (!Read(dim)) return Ends(in_tensor());
    if (dim < 1 || dim > max_elements / elements) {
      return Bad(
          fmt::format("{} has dimension {} of {}; each is at least 1 and their product at most {} "
                      "for a file of {} bytes",
                      in_tensor(), i, dim, max_elements, bytes_.size()));
    }
    elements *= dim;
    tensor.dims[i] = static_cast<int64_t>(dim);
  }
  return absl::OkStatus();
}

absl::Status GgufParser::PlaceTensors() {
  if (num_tensors_ == 0) return absl::OkStatus();
  const uint64_t data_begin = (pos_ + alignment_ - 1) / alignment_ * alignment_;
  if (data_begin > bytes_.size()) return Ends("the padding before the tensor data");
  const uint64_t data_bytes = bytes_.size() - data_begin;
  for (uint64_t i = 0; i < num_tensors_; ++i) {
    ModelTensor& tensor = file_.table_.tensors[i];
    if (offsets_[i] % alignment_ != 0) {
      return Bad(
          fmt::format("tensor '{}' is at offset {}; it must be a multiple of the alignment {}",
                      QuoteForMessage(tensor.name), offsets_[i], alignment_));
    }
    const auto size = static_cast<uint64_t>(tensor.num_bytes);
    if (offsets_[i] > data_bytes || size > data_bytes - offsets_[i]) {
      return Bad(fmt::format(
          "tensor '{}' has {} bytes at offset {}; the file holds {} bytes of tensor data",
          QuoteForMessage(tensor.name), size, offsets_[i], data_bytes));
    }
    tensor.data = bytes_.data() + data_begin + offsets_[i];
  }
  return absl::OkStatus();
}

absl::Status GgufParser::CheckTensorsAreDistinct() {
  std::ranges::sort(file_.table_.tensors, {}, &ModelTensor::name);
  const auto twin = std::ranges::adjacent_find(file_.table_.tensors, {}, &ModelTensor::name);
  if (twin != file_.table_.tensors.end()) {
    return Bad(fmt::format("tensor '{}' stands in the file twice", QuoteForMessage(twin->name)));
  }
  std::vector<const ModelTensor*> by_place;
  by_place.reserve(file_.table_.tensors.size());
  for (const ModelTensor& tensor : file_.table_.tensors) by_place.push_back(&tensor);
  std::ranges::sort(by_place, {}, &ModelTensor::data);
  for (size_t i = 1; i < by_place.size(); ++i) {
    if (by_place[i - 1]->data + by_place[i - 1]->num_bytes > by_place[i]->data) {
      return Bad(fmt::format("tensors '{}' and '{}' overlap",
                             QuoteForMessage(by_place[i - 1]->name),
                             QuoteForMessage(by_place[i]->name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace sluice
