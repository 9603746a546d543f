#include "model/gguf_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/check.h"
#include "base/status_macros.h"

namespace sluice {
namespace {

constexpr uint64_t kAlignment = GgufLimits::kDefaultAlignment;
constexpr size_t kBufferBytes = 1 << 20;

uint64_t Align(uint64_t at) { return (at + kAlignment - 1) / kAlignment * kAlignment; }

// ggml's number of a type.
uint32_t GgmlType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kBF16:
      return 30;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
      return 7;
    case DType::kQ8_0:
      return 8;
    case DType::kQ2K:
      return 10;
    case DType::kQ3K:
      return 11;
    case DType::kQ4K:
      return 12;
    case DType::kQ5K:
      return 13;
    case DType::kQ6K:
      return 14;
    case DType::kIq4Nl:
      return 20;
    case DType::kFp8:  // GGUF has no such types
    case DType::kFp8A8:
      break;
  }
  SLUICE_CHECK(false, "type {}", static_cast<int>(dtype));
  return 0;
}

template <typename T>
void Put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
void PutString(std::string& out, std::string_view text) {
  Put<uint64_t>(out, text.size());
  out += text;
}
template <typename T>
void PutArray(std::string& out, GgufType type, std::span<const T> values) {
  Put(out, static_cast<uint32_t>(type));
  Put<uint64_t>(out, values.size());
  out.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

// A new file that goes away unless it is kept.
class NewFile {
 public:
  explicit NewFile(std::string path) : path_(std::move(path)) {}
  ~NewFile() {
    if (fd_ >= 0) close(fd_);
    if (created_) unlink(path_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  absl::Status Create() {
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0) return Error("create");
    created_ = true;
    return absl::OkStatus();
  }

  absl::Status Append(std::span<const uint8_t> bytes) {
    size_ += bytes.size();
    if (buffer_.size() + bytes.size() <= kBufferBytes) {
      buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(Flush());
    return WriteAll(bytes);
  }

  absl::Status PadTo(uint64_t size) {
    const uint8_t zeros[kAlignment] = {};
    while (size_ < size) {
      RETURN_IF_ERROR(Append({zeros, std::min<uint64_t>(size - size_, kAlignment)}));
    }
    return absl::OkStatus();
  }

  absl::Status Finish() {
    RETURN_IF_ERROR(Flush());
    if (fsync(fd_) != 0) return Error("write");
    const int fd = std::exchange(fd_, -1);
    return close(fd) == 0 ? absl::OkStatus() : Error("write");
  }

  absl::Status RenameTo(const std::string& name) {
    if (rename(path_.c_str(), name.c_str()) != 0) return Error("rename");
    created_ = false;
    return absl::OkStatus();
  }

  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  [[nodiscard]] absl::Status Error(std::string_view action) const {
    const int error = errno;
    return absl::ErrnoToStatus(error, fmt::format("{}: cannot {}", path_, action));
  }
  absl::Status Flush() {
    RETURN_IF_ERROR(WriteAll(buffer_));
    buffer_.clear();
    return absl::OkStatus();
  }
  absl::Status WriteAll(std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Error("write");
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }

  const std::string path_;
  int fd_ = -1;
  bool created_ = false;
  uint64_t size_ = 0;
  std::vector<uint8_t> buffer_;
};

}  // namespace

int64_t GgufTensorSource::num_bytes() const {
  const DTypeInfo info = GetDTypeInfo(dtype);
  return dims[0] / info.block_elements * info.block_bytes * dims[1] * dims[2] * dims[3];
}

void GgufWriter::Key(std::string_view key, GgufType type) {
  PutString(metadata_, key);
  Put(metadata_, static_cast<uint32_t>(type));
  ++num_metadata_;
}
void GgufWriter::Set(std::string_view key, std::string_view text) {
  Key(key, GgufType::kString);
  PutString(metadata_, text);
}
void GgufWriter::Set(std::string_view key, uint32_t value) {
  Key(key, GgufType::kUint32);
  Put(metadata_, value);
}
void GgufWriter::Set(std::string_view key, float value) {
  Key(key, GgufType::kFloat32);
  Put(metadata_, value);
}
void GgufWriter::Set(std::string_view key, bool value) {
  Key(key, GgufType::kBool);
  Put<uint8_t>(metadata_, value ? 1 : 0);
}
void GgufWriter::Set(std::string_view key, std::span<const std::string> texts) {
  Key(key, GgufType::kArray);
  Put(metadata_, static_cast<uint32_t>(GgufType::kString));
  Put<uint64_t>(metadata_, texts.size());
  for (const std::string& text : texts) PutString(metadata_, text);
}
void GgufWriter::Set(std::string_view key, std::span<const uint8_t> values) {
  Key(key, GgufType::kArray);
  PutArray(metadata_, GgufType::kUint8, values);
}
void GgufWriter::Set(std::string_view key, std::span<const int32_t> values) {
  Key(key, GgufType::kArray);
  PutArray(metadata_, GgufType::kInt32, values);
}
void GgufWriter::Set(std::string_view key, std::span<const float> values) {
  Key(key, GgufType::kArray);
  PutArray(metadata_, GgufType::kFloat32, values);
}
void GgufWriter::Set(std::string_view key, const GgufValue& value) {
  Key(key, value.type);
  if (value.type == GgufType::kString) Put<uint64_t>(metadata_, value.bytes.size());
  if (value.type == GgufType::kArray) {
    Put(metadata_, static_cast<uint32_t>(value.element_type));
    Put<uint64_t>(metadata_, value.count);
  }
  metadata_ += value.bytes;
}

std::string GgufWriter::Header() const {
  std::string out = "GGUF";
  Put<uint32_t>(out, 3);
  Put<uint64_t>(out, tensors_.size());
  Put<uint64_t>(out, num_metadata_);
  out += metadata_;
  uint64_t offset = 0;
  for (const GgufTensorSource& tensor : tensors_) {
    PutString(out, tensor.name);
    Put<uint32_t>(out, static_cast<uint32_t>(tensor.num_dims));
    for (int i = 0; i < tensor.num_dims; ++i) Put<int64_t>(out, tensor.dims[i]);
    Put(out, GgmlType(tensor.dtype));
    Put(out, offset);
    offset = Align(offset + static_cast<uint64_t>(tensor.num_bytes()));
  }
  return out;
}

absl::Status GgufWriter::Write(
    const std::string& path,
    const std::function<absl::Status(const std::string& file)>& check) const {
  NewFile file(fmt::format("{}.{}.part", path, getpid()));
  RETURN_IF_ERROR(file.Create());
  const std::string header = Header();
  RETURN_IF_ERROR(file.Append({reinterpret_cast<const uint8_t*>(header.data()), header.size()}));
  for (const GgufTensorSource& tensor : tensors_) {
    RETURN_IF_ERROR(file.PadTo(Align(file.size())));
    const uint64_t begin = file.size();
    RETURN_IF_ERROR(
        tensor.write([&](std::span<const uint8_t> bytes) { return file.Append(bytes); }));
    SLUICE_CHECK(file.size() - begin == static_cast<uint64_t>(tensor.num_bytes()),
                 "tensor {}: {} of {} bytes", tensor.name, file.size() - begin, tensor.num_bytes());
  }
  RETURN_IF_ERROR(file.PadTo(Align(file.size())));
  RETURN_IF_ERROR(file.Finish());
  RETURN_IF_ERROR(check(file.path()));
  return file.RenameTo(path);
}

}  // namespace sluice
