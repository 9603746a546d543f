#include "model/weight_source.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace sluice {
namespace {

// Rows that a thread takes at once: a cache line of the forms that store columns of nibbles.
constexpr int64_t kRowsAtOnce = 128;

}  // namespace

absl::Status MakeRows(const WeightView& view, int64_t begin, int64_t end, int threads,
                      uint8_t* out) {
  const int64_t pieces = (end - begin + kRowsAtOnce - 1) / kRowsAtOnce;
  std::vector<absl::Status> statuses(static_cast<size_t>(pieces));
  std::atomic<int64_t> next = 0;
  const auto work = [&] {
    for (int64_t piece = 0; (piece = next.fetch_add(1)) < pieces;) {
      const int64_t first = begin + piece * kRowsAtOnce;
      statuses[static_cast<size_t>(piece)] = view.source->MakeRows(
          first, std::min(first + kRowsAtOnce, end), out + (first - begin) * view.row_bytes());
    }
  };
  std::vector<std::thread> others(
      static_cast<size_t>(std::clamp<int64_t>(threads, 1, std::max<int64_t>(pieces, 1)) - 1));
  for (std::thread& other : others) other = std::thread(work);
  work();
  for (std::thread& other : others) other.join();
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace sluice
