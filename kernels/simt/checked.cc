#include "kernels/simt/checked.h"

#include <fmt/format.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/mutex.h"
#include "kernels/simt/memory.h"
#include "kernels/simt/runner.h"

namespace sluice::simt {
namespace {

constinit bool kernels_are_checked = false;  // set before main begins

// Accesses between two changes of the running thread, on average, where the seed orders threads.
constexpr uint32_t kAccessesUntilPreempted = 64;

constexpr size_t kMaxThreadsOfMark = 1024;
static_assert(kMaxBlockThreads <= kMaxThreadsOfMark);

// What launches share. Notes on global memory outlive a launch, so that launches' times must not
// mix: only one is checked at a time.
struct Common {
  Mutex one_at_a_time;
  Time now = 0;  // where the last launch ended
  SiteTable sites;
  LazyArray<Cell> shared{kSharedArenaBytes};
};
Common& TheCommon() {
  static Common& common = *new Common;
  return common;
}

// The program's own data: kernels read their constants there.
struct Image {
  uintptr_t begin = UINTPTR_MAX, end = 0;
};
Image ProgramImage() {
  Image image;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        auto& found = *static_cast<Image*>(result);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          if (segment.p_type != PT_LOAD) continue;
          const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
          found.begin = std::min(found.begin, begin);
          found.end = std::max(found.end, begin + segment.p_memsz);
        }
        return 1;  // the first is the program
      },
      &image);
  return image;
}

const char* Verb(AccessKind kind) {
  switch (kind) {
    case AccessKind::kRead:
      return "a read";
    case AccessKind::kWrite:
      return "a write";
    case AccessKind::kAtomic:
      return "an atomic operation";
    case AccessKind::kAtomicRead:
      return "an atomic read";
  }
  return "";
}

bool Writes(AccessKind kind) { return kind == AccessKind::kWrite || kind == AccessKind::kAtomic; }
bool IsAtomic(AccessKind kind) {
  return kind == AccessKind::kAtomic || kind == AccessKind::kAtomicRead;
}

}  // namespace

bool KernelsAreChecked() { return kernels_are_checked; }
void NoteThatKernelsAreChecked() { kernels_are_checked = true; }

std::unique_ptr<Checker> Checker::Begin(Runner& runner) {
  if (!kernels_are_checked) return nullptr;
  TheCommon().one_at_a_time.lock();
  return std::unique_ptr<Checker>(new Checker(runner));
}

Checker::Checker(Runner& runner)
    : runner_(runner),
      order_(TheCommon().now),
      sites_(TheCommon().sites),
      shared_cells_(TheCommon().shared.data()),
      memory_(KnownMemory()),
      requests_(MemoryIsCounted() ? std::make_unique<RequestCounter>() : nullptr),
      until_preempted_(runner.seed() == 0 ? 0 : kAccessesUntilPreempted) {}

Checker::~Checker() {
  TheCommon().now = order_.end();
  TheCommon().one_at_a_time.unlock();
}

void Checker::EndBlock() {
  if (requests_ != nullptr) requests_->AllMet();
}

void Checker::Meet(const std::vector<uint32_t>& threads) {
  order_.Join(threads);
  if (requests_ == nullptr) return;
  for (const uint32_t thread : threads) {
    if (thread % kWarpThreads == 0) requests_->LanesMet(thread / kWarpThreads);
  }
}

void Checker::LanesMet(uint32_t warp) {
  if (requests_ != nullptr) requests_->LanesMet(warp);
}

MemoryCounters Checker::counters() const {
  return requests_ == nullptr ? MemoryCounters{} : requests_->counters();
}

void Checker::Count(const Target& target) {
  const ThreadPlace& place = runner_.current().place;
  const bool writes = target.kind != AccessKind::kRead;
  if (target.memory != nullptr) {
    requests_->Global(*target.memory, target.address, target.bytes, writes, target.site, place.warp,
                      place.lane);
  } else {
    const auto arena = reinterpret_cast<uintptr_t>(runner_.shared());
    requests_->Shared(target.address - arena, target.bytes, writes, target.site, place.warp,
                      place.lane);
  }
}

void Checker::Plain(const void* address, size_t bytes, AccessKind kind, bool aligned,
                    const void* code) {
  if (quiet_ || runner_.OnStack(address)) return;
  Check(address, bytes, kind, aligned, sites_.OfCode(code));
}

void Checker::Access(const void* address, size_t bytes, AccessKind kind, const Site& site) {
  if (!runner_.OnStack(address)) Check(address, bytes, kind, true, sites_.OfCall(site));
}

void Checker::Check(const void* address, size_t bytes, AccessKind kind, bool aligned,
                    SiteTable::Id site) {
  Target target{reinterpret_cast<uintptr_t>(address), bytes, kind, site};
  if (!Locate(target)) return Elsewhere(target);
  if (aligned && target.address % bytes != 0) {
    Blame(FindingKind::kMisaligned, target, "which is no multiple of that");
  }
  if (IsAtomic(kind)) order_.Atomic(runner_.current().index, target.address);
  Touch(target);
  MaybePreempt();
}

Allocation* Checker::Find(uintptr_t address) {
  if (recent_ != nullptr && address - recent_->begin < recent_->bytes) return recent_;
  const auto next = std::upper_bound(
      memory_.begin(), memory_.end(), address,
      [](uintptr_t a, const std::shared_ptr<Allocation>& memory) { return a < memory->begin; });
  if (next == memory_.begin()) return nullptr;
  Allocation* const before = std::prev(next)->get();
  if (address - before->begin >= before->bytes) return nullptr;
  return recent_ = before;
}

// Finds the notes on what is accessed; ends the launch if a part of it is outside.
bool Checker::Locate(Target& target) {
  const uintptr_t offset = target.address - reinterpret_cast<uintptr_t>(runner_.shared());
  if (offset < kSharedArenaBytes) {
    const Runner::Extent variable = runner_.VariableAt(offset);
    if (offset - variable.begin + target.bytes > variable.bytes) {
      Blame(FindingKind::kOutOfBounds, target,
            fmt::format("at byte {} of a shared variable that has {}",
                        static_cast<ptrdiff_t>(offset - variable.begin), variable.bytes));
    }
    target.cells = shared_cells_ + offset;
    target.since = order_.block_begin();
    return true;
  }
  const Allocation* const memory = Find(target.address);
  if (memory == nullptr) return false;
  const uintptr_t at = target.address - memory->begin;
  if (at + target.bytes > memory->bytes) {
    Blame(FindingKind::kOutOfBounds, target,
          fmt::format("at byte {} of an allocation of {}", at, memory->bytes));
  }
  target.memory = memory;
  target.cells = memory->cells.data() + at;
  target.written = memory->written.data() + at;
  target.since = order_.launch_begin();
  return true;
}

// In no memory of a kernel's. Its constants and its arguments lie in the program's own.
void Checker::Elsewhere(const Target& target) {
  static const Image image = ProgramImage();
  if (!Writes(target.kind)) {
    if (target.address >= image.begin && target.address < image.end) return;
    if (runner_.IsPlace(target.address) || !SourceOf(target.site).of_kernel) return;
  }
  const auto next = std::upper_bound(
      memory_.begin(), memory_.end(), target.address,
      [](uintptr_t a, const std::shared_ptr<Allocation>& memory) { return a < memory->begin; });
  constexpr uintptr_t kFar = 1 << 16;
  const uintptr_t ahead = next == memory_.end() ? kFar : (*next)->begin - target.address;
  uintptr_t behind = kFar;
  if (next != memory_.begin()) {
    const Allocation& before = **std::prev(next);
    behind = target.address - before.begin - before.bytes;
  }
  std::string where = "which was never allocated";
  if (behind < kFar && behind <= ahead) {
    where = fmt::format("{} bytes behind an allocation of {}", behind, (*std::prev(next))->bytes);
  } else if (ahead < kFar) {
    where = fmt::format("{} bytes before an allocation of {}", ahead, (*next)->bytes);
  }
  Blame(FindingKind::kOutOfBounds, target, where);
}

Mark Checker::MarkOf(SiteTable::Id site, bool atomic) const {
  const uint32_t thread = runner_.current().index;
  Mark mark{.time = order_.now(thread), .site = site};
  mark.thread = static_cast<uint16_t>(thread & (kMaxThreadsOfMark - 1));
  mark.atomic = atomic;
  return mark;
}

void Checker::Touch(const Target& target) {
  if (requests_ != nullptr) Count(target);
  const Mark mark = MarkOf(target.site, IsAtomic(target.kind));
  // Most accesses find all their bytes in one state: what is right of the first is of the others.
  const Cell first = target.cells[0];
  const uint8_t first_written = target.written == nullptr ? 0 : target.written[0];
  for (size_t i = 0; i < target.bytes; ++i) {
    const bool alike = i > 0 && std::memcmp(&target.cells[i], &first, sizeof(first)) == 0 &&
                       (target.written == nullptr || target.written[i] == first_written);
    if (!alike) {
      TouchByte(target, i, mark);
      continue;
    }
    target.cells[i] = target.cells[0];
    if (target.written != nullptr) target.written[i] = target.written[0];
  }
}

void Checker::TouchByte(const Target& target, size_t i, const Mark& mark) {
  Cell& cell = target.cells[i];
  const bool known =
      target.written != nullptr ? target.written[i] != 0 : cell.written.time >= target.since;
  if (!known && target.kind != AccessKind::kWrite) {
    Blame(FindingKind::kUninitialised, target, "which nobody has written");
  }
  if (cell.written.time >= target.since) Compare(target, cell.written, true);
  if (!Writes(target.kind)) return NoteRead(cell, mark);
  for (Mark& read : cell.read) {
    if (read.time >= target.since) Compare(target, read, false);
    read = {};
  }
  cell.written = mark;
  if (target.written != nullptr) target.written[i] = 1;
}

void Checker::NoteRead(Cell& cell, const Mark& mark) {
  Mark* replaced = nullptr;
  for (Mark& read : cell.read) {
    if (read.in_flight && read.time >= order_.launch_begin()) continue;
    const bool own = read.thread == mark.thread && order_.OfThisBlock(read);
    if (own || read.time < order_.launch_begin() || order_.Before(read, mark.thread)) {
      read = mark;
      return;
    }
    // Of two that are unordered with this one, that of another warp stays.
    if (replaced == nullptr || read.thread / kWarpThreads == mark.thread / kWarpThreads) {
      replaced = &read;
    }
  }
  if (replaced != nullptr) *replaced = mark;
}

// Whether an access and an earlier one may come in any order.
void Checker::Compare(const Target& target, const Mark& mark, bool wrote) {
  const uint32_t thread = runner_.current().index;
  const auto who = [&] {
    const Site& site = SourceOf(mark.site).site;
    return fmt::format("thread {}{} at {}:{}", static_cast<uint32_t>(mark.thread),
                       order_.OfThisBlock(mark) ? "" : " of another block", site.file, site.line);
  };
  if (mark.in_flight) {
    Blame(FindingKind::kCopy, target,
          fmt::format("{} the asynchronous copy that {} has begun and not waited for",
                      wrote ? "the target of" : "the source of", who()));
  }
  if ((mark.atomic && IsAtomic(target.kind)) || order_.Before(mark, thread)) return;
  Blame(FindingKind::kRace, target,
        fmt::format("and {} by {}, with nothing that orders them", wrote ? "a write" : "a read",
                    who()));
}

void Checker::CopyBegins(const void* to, const void* from, bool filled, const Site& site) {
  const SiteTable::Id id = sites_.OfCall(site);
  Target target{reinterpret_cast<uintptr_t>(to), 16, AccessKind::kWrite, id};
  if (!Locate(target)) Elsewhere(target);
  if (target.written != nullptr) {
    Blame(FindingKind::kOutOfBounds, target, "global memory, as an asynchronous copy's target");
  }
  if (filled) {
    Target source{reinterpret_cast<uintptr_t>(from), 16, AccessKind::kRead, id};
    if (!Locate(source)) {
      Elsewhere(source);
    } else {
      Touch(source);
      const Mark mark = MarkOf(id);
      for (size_t i = 0; i < source.bytes; ++i) {
        for (Mark& read : source.cells[i].read) {
          if (read.time == mark.time && read.thread == mark.thread) read.in_flight = true;
        }
      }
    }
  }
  Touch(target);
  for (size_t i = 0; i < target.bytes; ++i) target.cells[i].written.in_flight = true;
  MaybePreempt();
}

void Checker::CopyLands(const void* to, const void* from, bool filled, const Site& site) {
  const SiteTable::Id id = sites_.OfCall(site);
  const Mark mark = MarkOf(id);
  Target target{reinterpret_cast<uintptr_t>(to), 16, AccessKind::kWrite, id};
  Locate(target);
  for (size_t i = 0; i < target.bytes; ++i) target.cells[i].written = mark;
  Target source{reinterpret_cast<uintptr_t>(from), 16, AccessKind::kRead, id};
  if (!filled || !Locate(source)) return;
  for (size_t i = 0; i < source.bytes; ++i) {
    for (Mark& read : source.cells[i].read) {
      if (read.in_flight && read.thread == mark.thread && order_.OfThisBlock(read)) read = mark;
    }
  }
}

void Checker::MaybePreempt() {
  if (until_preempted_ == 0 || --until_preempted_ != 0) return;
  until_preempted_ = 1 + runner_.Choose(2 * kAccessesUntilPreempted);
  runner_.Preempt();
}

SiteTable::Source Checker::SourceOf(SiteTable::Id site) {
  SiteTable::Source source;
  runner_.OnHost([&] { source = sites_.Find(site); });
  return source;
}

void Checker::Blame(FindingKind kind, const Target& target, const std::string& message) {
  const Site site = SourceOf(target.site).site;
  runner_.Stop(kind, site,
               fmt::format("{} of {} bytes at {:#x}, {}", Verb(target.kind), target.bytes,
                           target.address, message));
}

}  // namespace sluice::simt
