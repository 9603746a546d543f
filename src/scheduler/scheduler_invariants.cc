// The checks of it all.
#include <algorithm>
#include <map>
#include <vector>

#include "base/check.h"
#include "scheduler/scheduler.h"

namespace sluice {

void Scheduler::CheckInvariants() const {
  std::vector<int32_t> references(config_.num_kv_blocks);
  std::vector<bool> slot_is_taken(config_.max_rows);
  int32_t num_running = 0, num_waiting = 0, num_held = 0, num_leaving = 0, num_rows_in_flight = 0;
  int64_t num_waiting_tokens = 0;
  for (const int32_t slot : free_slots_) slot_is_taken[slot] = true;
  for (const auto& [id, owned] : sequences_) {
    const Sequence& sequence = *owned;
    for (const BlockId block : sequence.blocks) ++references[block];
    num_rows_in_flight += sequence.num_rows_in_flight;
    switch (sequence.state) {
      case SequenceState::kHeld:
        SLUICE_CHECK(std::ranges::count(sequence.leader->followers, &sequence) == 1, "sequence {}",
                     id);
        ++num_held;
        [[fallthrough]];
      case SequenceState::kWaiting:
        ++num_waiting;
        num_waiting_tokens += sequence.num_tokens();
        SLUICE_CHECK(
            sequence.blocks.empty() && sequence.slot == -1 && sequence.num_rows_in_flight == 0 &&
                sequence.num_pending_samples == 0 && sequence.num_planned_tokens == 0,
            "waiting sequence {}: {} blocks, slot {}", id, sequence.blocks.size(), sequence.slot);
        break;
      case SequenceState::kRunning:
        ++num_running;
        SLUICE_CHECK(!slot_is_taken[sequence.slot], "slot {} is given twice", sequence.slot);
        slot_is_taken[sequence.slot] = true;
        CheckRunning(sequence);
        break;
      case SequenceState::kLeaving:
        ++num_leaving;
        SLUICE_CHECK(
            sequence.num_rows_in_flight > 0 && sequence.slot == -1 &&
                sequence.num_planned_tokens <= sequence.num_tokens() + sequence.num_pending_samples,
            "leaving sequence {}", id);
        break;
      case SequenceState::kEnded:
        SLUICE_CHECK(sequence.num_rows_in_flight > 0 && sequence.slot == -1, "ended sequence {}",
                     id);
        break;
    }
  }
  int32_t num_planned_rows = 0;
  for (const Step& step : in_flight_) num_planned_rows += static_cast<int32_t>(step.rows.size());
  SLUICE_CHECK(num_rows_in_flight == num_planned_rows, "{} != {}", num_rows_in_flight,
               num_planned_rows);
  SLUICE_CHECK(num_running == static_cast<int32_t>(running_.size()), "{} != {}", num_running,
               running_.size());
  SLUICE_CHECK(running_.size() + free_slots_.size() == static_cast<size_t>(config_.max_rows),
               "{} + {} slots of {}", running_.size(), free_slots_.size(), config_.max_rows);
  SLUICE_CHECK(num_held == num_held_ && num_waiting == waiting_.size() + num_held_,
               "{} held, {} waiting, queue {}", num_held, num_waiting, waiting_.size());
  SLUICE_CHECK(num_leaving == num_leaving_, "{} != {}", num_leaving, num_leaving_);
  SLUICE_CHECK(num_waiting_tokens == num_waiting_tokens_, "{} != {}", num_waiting_tokens,
               num_waiting_tokens_);
  SLUICE_CHECK(std::ranges::is_sorted(running_, [](auto* a, auto* b) { return Outranks(*a, *b); }),
               "rank order");
  CheckTenants();
  pool_.CheckInvariants(references);
  for (const Sequence* sequence :
       running_) {  // what may still be written belongs to one table and to no prefix
    for (size_t i = sequence->num_computed_tokens / config_.kv_block_tokens;
         i < sequence->blocks.size(); ++i) {
      const BlockId block = sequence->blocks[i];
      SLUICE_CHECK(references[block] == 1 && !pool_.IsPublished(block),
                   "sequence {} writes block {} of {} tables", sequence->id, block,
                   references[block]);
    }
  }
}

void Scheduler::CheckRunning(const Sequence& s) const {
  SLUICE_CHECK(s.num_computed_tokens <= s.num_planned_tokens &&
                   s.num_planned_tokens < s.num_tokens() + s.num_pending_samples,
               "sequence {}: {} computed, {} planned, {} + {} known", s.id, s.num_computed_tokens,
               s.num_planned_tokens, s.num_tokens(), s.num_pending_samples);
  SLUICE_CHECK(s.num_pending_samples == 0 || s.num_unplanned_tokens() == 1,
               "sequence {}: {} pending, {} unplanned", s.id, s.num_pending_samples,
               s.num_unplanned_tokens());
  SLUICE_CHECK(!config_.keeps_kv || s.num_planned_tokens <= static_cast<int32_t>(s.blocks.size()) *
                                                                config_.kv_block_tokens,
               "sequence {}: {} tokens in {} blocks", s.id, s.num_planned_tokens, s.blocks.size());
  SLUICE_CHECK(s.num_output_tokens() <= s.max_output_tokens && s.num_tokens() <= max_tokens_,
               "sequence {}: {} output tokens", s.id, s.num_output_tokens());
  SLUICE_CHECK(!config_.whole_prompts || s.num_planned_tokens == s.num_tokens(),
               "sequence {}: {} of {} tokens of a whole prompt", s.id, s.num_planned_tokens,
               s.num_tokens());
  SLUICE_CHECK(s.num_rows_in_flight <= static_cast<int32_t>(in_flight_.size()), "sequence {}",
               s.id);
}

// What tenants hold and wait for is the sum over their sequences.
void Scheduler::CheckTenants() const {
  std::map<const Tenant*, Tenant> expected;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->tenant == nullptr) continue;  // it has ended
    Tenant& sum = expected[sequence->tenant];
    ++sum.num_sequences;
    sum.num_open_prompts += sequence->prompt_is_open ? 1 : 0;
    if (sequence->state == SequenceState::kRunning) {
      ++sum.num_rows;
      sum.num_blocks += static_cast<int64_t>(sequence->blocks.size());
    } else if (sequence->state != SequenceState::kLeaving) {
      ++sum.num_waiting;
      sum.num_waiting_tokens += sequence->num_tokens();
    }
  }
  for (const auto& [name, tenant] : tenants_.all()) {
    const Tenant& sum = expected[&tenant];
    SLUICE_CHECK(tenant.num_sequences == sum.num_sequences &&
                     tenant.num_open_prompts == sum.num_open_prompts &&
                     tenant.num_waiting == sum.num_waiting &&
                     tenant.num_waiting_tokens == sum.num_waiting_tokens &&
                     tenant.num_rows == sum.num_rows && tenant.num_blocks == sum.num_blocks,
                 "tenant {}: {} sequences, {} open prompts, {} waiting, {} rows, {} blocks",
                 tenant.number, tenant.num_sequences, tenant.num_open_prompts, tenant.num_waiting,
                 tenant.num_rows, tenant.num_blocks);
  }
}

}  // namespace sluice
