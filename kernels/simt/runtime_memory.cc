#include "kernels/simt/runtime_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/simt/memory.h"

namespace sluice::simt {
namespace {

constexpr size_t kPage = 4096;
constexpr int kNew = 0xCD, kPadding = 0xFD;
// Larger allocations are not filled but mapped from a file of the pattern, privately: 80 GB of a
// card then cost what is written to.
constexpr size_t kFillBytes = size_t{8} << 20, kPatternBytes = size_t{16} << 20;
// Freed ranges whose addresses are kept from being used again; each costs the system a mapping, of
// which a process may have 65 530.
constexpr size_t kMaxFreed = 4096;

size_t RoundUp(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

// Of kPatternBytes; -1 if the system gives none. It stays open.
int MakePatternFile() {
  const int file = memfd_create("pattern", MFD_CLOEXEC);
  if (file < 0) return -1;
  const std::vector<char> pattern(kPatternBytes, static_cast<char>(kNew));
  if (write(file, pattern.data(), kPatternBytes) == static_cast<ssize_t>(kPatternBytes)) {
    return file;
  }
  close(file);
  return -1;
}

int PatternFile() {
  static const int file = MakePatternFile();
  return file;
}

bool MapPattern(int file, std::byte* pages, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kPatternBytes) {
    if (mmap(pages + at, std::min(kPatternBytes, bytes - at), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file, 0) == MAP_FAILED) {
      return false;
    }
  }
  return true;
}

bool IsPadding(const std::byte* begin, const std::byte* end) {
  static const std::vector<std::byte> padding(kPage, std::byte{kPadding});
  return std::memcmp(begin, padding.data(), static_cast<size_t>(end - begin)) == 0;
}

// Only the page before the block: with 256-byte steps the rest is guard.
void FillPadding(const MemoryBlock& block) {
  std::memset(block.pages, kPadding, static_cast<size_t>(block.begin - block.pages));
  const std::byte* const end = block.pages + block.page_bytes;
  std::memset(block.end(), kPadding, static_cast<size_t>(end - block.end()));
}

}  // namespace

GuardedMemory::~GuardedMemory() {
  for (const auto& [begin, block] : blocks_) {
    if (block.pages == nullptr) continue;
    MemoryFreed(block.begin);
    munmap(block.pages - kPage, block.page_bytes + 2 * kPage);
  }
  for (const Range& range : freed_) munmap(range.begin, range.bytes);
}

std::byte* GuardedMemory::Allocate(int device, size_t bytes) {
  if (bytes > SIZE_MAX / 4) return nullptr;
  const size_t padded = RoundUp(bytes, kAllocationBytes), page_bytes = RoundUp(padded, kPage);
  void* const range = mmap(nullptr, page_bytes + 2 * kPage, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return nullptr;
  auto* const pages = static_cast<std::byte*>(range) + kPage;
  MemoryBlock block{.begin = pages + page_bytes - padded,
                    .bytes = bytes,
                    .device = device,
                    .pages = pages,
                    .page_bytes = page_bytes};
  const bool large = page_bytes > kFillBytes;
  bool usable = mprotect(pages, page_bytes, PROT_READ | PROT_WRITE) == 0;
  if (usable && large && PatternFile() >= 0) {
    usable = MapPattern(PatternFile(), pages, page_bytes);
  } else if (usable) {
    std::memset(pages, kNew, page_bytes);
  }
  if (!usable) {
    munmap(range, page_bytes + 2 * kPage);
    return nullptr;
  }
  FillPadding(block);
  if (!Shows(shown_, block)) Protect(block, false);
  blocks_[block.begin] = block;
  MemoryAllocated(block.begin, bytes);
  return block.begin;
}

void GuardedMemory::Register(std::byte* begin, size_t bytes) {
  blocks_[begin] = {.begin = begin, .bytes = bytes};
}

void GuardedMemory::Free(std::byte* begin) {
  const auto it = blocks_.find(begin);
  SLUICE_CHECK(it != blocks_.end(), "no block at {}", static_cast<void*>(begin));
  const MemoryBlock block = it->second;
  blocks_.erase(it);
  if (block.pages == nullptr) return;
  MemoryFreed(begin);
  const Range range{block.pages - kPage, block.page_bytes + 2 * kPage};
  SLUICE_CHECK(mmap(range.begin, range.bytes, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED,
               "{} bytes", range.bytes);
  freed_.push_back(range);
  if (freed_.size() <= kMaxFreed) return;
  munmap(freed_.front().begin, freed_.front().bytes);
  freed_.pop_front();
}

const MemoryBlock* GuardedMemory::Find(const void* address) const {
  const auto* const p = static_cast<const std::byte*>(address);
  auto it = blocks_.upper_bound(p);
  if (it == blocks_.begin()) return nullptr;
  const MemoryBlock& block = std::prev(it)->second;
  return p <= block.end() ? &block : nullptr;
}

void GuardedMemory::Protect(const MemoryBlock& block, bool shown) {
  const int protection = shown ? PROT_READ | PROT_WRITE : PROT_NONE;
  SLUICE_CHECK(mprotect(block.pages, block.page_bytes, protection) == 0, "{} bytes",
               block.page_bytes);
}

void GuardedMemory::Show(int device) {
  const int before = std::exchange(shown_, device);
  if (before == device) return;
  for (const auto& [begin, block] : blocks_) {
    if (Shows(before, block) != Shows(device, block)) Protect(block, Shows(device, block));
  }
}

const MemoryBlock* GuardedMemory::FindDamaged() {
  for (const auto& [begin, block] : blocks_) {
    if (block.pages == nullptr || !Shows(shown_, block)) continue;
    if (IsPadding(block.end(), block.pages + block.page_bytes) &&
        IsPadding(block.pages, block.begin)) {
      continue;
    }
    FillPadding(block);  // said once
    return &block;
  }
  return nullptr;
}

}  // namespace sluice::simt
