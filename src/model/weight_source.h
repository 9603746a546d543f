// A matrix that its file holds in a form that no backend reads: its rows are made when it is
// loaded.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "absl/status/status.h"
#include "kernels/view.h"

namespace sluice {

// Immutable; thread-safe.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // Writes rows [begin, end) of the view that names this source, in blocks of the view's dtype; a
  // row's bytes do not depend on the range. Cheapest for many rows at once: some forms store
  // columns. Errors: InvalidArgument, one sentence with the file and the tensor, for numbers that
  // the dtype cannot hold.
  virtual absl::Status MakeRows(int64_t begin, int64_t end, uint8_t* out) const = 0;

  // Calls `release` with each piece of the file that the matrix is made from.
  virtual void Release(
      const std::function<void(std::span<const uint8_t> bytes)>& release) const = 0;
};

// Rows [begin, end) of view, which has a source, shared out over at most `threads` threads. out:
// (end - begin) * view.row_bytes() bytes. Errors: the first rows' of those that MakeRows gives.
absl::Status MakeRows(const WeightView& view, int64_t begin, int64_t end, int threads,
                      uint8_t* out);

}  // namespace sluice
