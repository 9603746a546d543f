// The checked build: kernels compiled with -fsanitize=thread, whose compiler then calls a hook
// before each access to memory that may be shared. The hooks are ours (checked_hooks.cc), and what
// they find ends the launch with a Finding: accesses outside of what a kernel was given, misaligned
// ones, reads of what nobody wrote, races of a block's threads and of blocks, and accesses that
// meet an asynchronous copy under way. Private to this folder.
//
// Not seen: what a thread does to another's local variables, memcpy and memset of more than the
// compiler turns into moves, and two launches that race.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/checked_order.h"
#include "kernels/simt/checked_site.h"
#include "kernels/simt/grid.h"
#include "kernels/simt/profile_requests.h"
#include "kernels/simt/shadow.h"

namespace sluice::simt {

class Runner;

// Of the hooks' file, which a program holds only together with checked kernels.
void NoteThatKernelsAreChecked();

// One launch. Only one at a time: see Checker::Begin.
class Checker {
 public:
  // Null in a program without checked kernels. Waits until no other launch is checked.
  static std::unique_ptr<Checker> Begin(Runner& runner);
  ~Checker();
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  void BeginBlock(uint32_t num_threads) { order_.BeginBlock(num_threads); }
  void EndBlock();
  [[nodiscard]] Order& order() { return order_; }
  // These threads have waited for each other, and nobody else.
  void Meet(const std::vector<uint32_t>& threads);
  // All lanes of a warp have met, though nothing orders what they did.
  void LanesMet(uint32_t warp);
  [[nodiscard]] MemoryCounters counters() const;

  // An access by the running thread, before it happens; what is wrong with it ends the launch.
  // Plain: of code at `code`; what it does to fibers' stacks is nobody's business.
  void Plain(const void* address, size_t bytes, AccessKind kind, bool aligned, const void* code);
  void Access(const void* address, size_t bytes, AccessKind kind, const Site& site);

  void CopyBegins(const void* to, const void* from, bool filled, const Site& site);
  void CopyLands(const void* to, const void* from, bool filled, const Site& site);

  // While lanes' common operation runs on one of them, its accesses are not that lane's own.
  void set_quiet(bool quiet) { quiet_ = quiet; }

 private:
  struct Target {  // what is accessed, and its notes
    uintptr_t address;
    size_t bytes;
    AccessKind kind;
    SiteTable::Id site;
    Cell* cells = nullptr;
    uint8_t* written = nullptr;          // null: shared memory
    Time since = 0;                      // marks before it are history
    const Allocation* memory = nullptr;  // null: shared memory
  };

  explicit Checker(Runner& runner);
  void Check(const void* address, size_t bytes, AccessKind kind, bool aligned, SiteTable::Id site);
  [[nodiscard]] Allocation* Find(uintptr_t address);
  bool Locate(Target& target);
  void Elsewhere(const Target& target);
  void Touch(const Target& target);
  void TouchByte(const Target& target, size_t i, const Mark& mark);
  void Compare(const Target& target, const Mark& mark, bool wrote);
  void NoteRead(Cell& cell, const Mark& mark);
  void Count(const Target& target);
  void MaybePreempt();

  [[nodiscard]] Mark MarkOf(SiteTable::Id site, bool atomic = false) const;
  [[nodiscard]] SiteTable::Source SourceOf(SiteTable::Id site);
  [[noreturn]] void Blame(FindingKind kind, const Target& target, const std::string& message);

  Runner& runner_;
  Order order_;
  SiteTable& sites_;
  Cell* const shared_cells_;
  const std::vector<std::shared_ptr<Allocation>> memory_;  // by address
  Allocation* recent_ = nullptr;
  std::unique_ptr<RequestCounter> requests_;  // null: they are not counted
  bool quiet_ = false;
  uint32_t until_preempted_ = 0;  // accesses; 0: never
};

}  // namespace sluice::simt
