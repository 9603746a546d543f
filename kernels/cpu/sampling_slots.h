// The sampling state of every row that can run at once: parameters, last tokens, penalty counts.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "kernels/cpu/sampling_slot.h"
#include "kernels/view.h"

namespace sluice::cpu {

// One thread sets up; during a step a slot is used by the one thread that samples its row.
class SamplingSlots {
 public:
  // Errors: InvalidArgument unless max_rows > 0 and 0 < vocab_size <= kMaxVocab; ResourceExhausted.
  absl::Status Allocate(int32_t max_rows, int32_t vocab_size);

  // Copies the parameters and counts the history's tokens. Token ids outside the vocabulary are
  // ignored. Errors: OutOfRange for a slot that was not allocated.
  absl::Status Init(const SlotView& view);

  [[nodiscard]] SamplingSlot* slots() { return slots_.data(); }
  [[nodiscard]] const int32_t* last_tokens() const { return last_tokens_.data(); }
  [[nodiscard]] int32_t vocab_size() const { return vocab_size_; }
  [[nodiscard]] int32_t num_slots() const { return static_cast<int32_t>(slots_.size()); }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  struct Owned {
    std::vector<int32_t> stop_tokens;
    std::vector<std::pair<int32_t, float>> bias;
  };

  int32_t vocab_size_ = 0;
  std::vector<SamplingSlot> slots_;
  std::vector<Owned> owned_;
  std::vector<int32_t> last_tokens_;
  // Counts and seen lists of all slots: zero pages, so that slots without penalties cost nothing.
  std::unique_ptr<uint32_t, Free> counts_;
  std::unique_ptr<int32_t, Free> seen_;
};

// A thread's scratch holds 16 bytes for each token of the vocabulary while it samples.
inline constexpr int32_t kMaxVocab = 1 << 18;

}  // namespace sluice::cpu
