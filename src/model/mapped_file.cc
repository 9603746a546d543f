#include "model/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace sluice {
namespace {

absl::Status SystemError(const std::string& path, std::string_view action) {
  const int error = errno;
  return absl::ErrnoToStatus(error, fmt::format("{}: cannot {}", path, action));
}

// Closes on every way out.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer; it has no effect on regular files.
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return SystemError(path, "open");
  struct stat info = {};
  if (fstat(fd.get(), &info) != 0) return SystemError(path, "read the size of");
  if (!S_ISREG(info.st_mode))
    return absl::InvalidArgumentError(fmt::format("{}: not a regular file", path));
  if (info.st_size == 0)
    return absl::InvalidArgumentError(fmt::format("{}: the file is empty", path));
  const auto size = static_cast<size_t>(info.st_size);
  void* mapping = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (mapping == MAP_FAILED) return SystemError(path, "map");
  MappedFile file;
  file.bytes_ = {static_cast<const uint8_t*>(mapping), size};
  return file;
}

void MappedFile::ReleasePages(std::span<const uint8_t> part) const {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(bytes_.data());
  const auto address = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t begin = (std::max(address, first) + page - 1) / page * page;
  const uintptr_t end = std::min(address + part.size(), first + bytes_.size()) / page * page;
  // Only a wish: what is not given back costs memory and nothing else.
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace sluice
