// Memory that is given out and never taken back before the arena goes: 2 MiB-aligned regions with
// huge pages asked for.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice::cpu {

// Not thread-safe.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Zeroed, 64-byte aligned. Errors: ResourceExhausted; InvalidArgument for a negative size.
  absl::StatusOr<void*> Allocate(int64_t bytes);

 private:
  struct Region {
    void* base;
    int64_t mapped, used, size;
    char* begin;
  };
  std::vector<Region> regions_;
};

}  // namespace sluice::cpu
