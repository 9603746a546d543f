// How much memory a piece of code holds at most and how often it asks for some, by counting
// operator new in the test binary.
#pragma once

#include <cstddef>

namespace sluice {

// Counts on the constructing thread from construction on. One at a time.
class AllocationPeak {
 public:
  AllocationPeak();
  [[nodiscard]] size_t bytes()
      const;  // the most that was held at once, beyond what was held at construction
  [[nodiscard]] size_t count() const;  // of allocations
};

}  // namespace sluice
