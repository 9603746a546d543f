// A file of the disk as read-only memory. Immutable; thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace sluice {

class MappedFile {
 public:
  // Errors: what the system says; InvalidArgument for an empty or not a regular file.
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  [[nodiscard]] std::span<const uint8_t> bytes() const { return bytes_; }
  // Gives the whole pages inside `part` back to the system, as far as they are this mapping's: the
  // next access reads them from the file again.
  void ReleasePages(std::span<const uint8_t> part) const;

 private:
  std::span<const uint8_t> bytes_;  // empty: nothing is mapped
};

}  // namespace sluice
