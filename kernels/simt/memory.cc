#include "kernels/simt/memory.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "base/check.h"
#include "base/mutex.h"
#include "kernels/simt/checked.h"
#include "kernels/simt/shadow.h"

namespace sluice::simt {
namespace {

struct Table {
  Mutex mutex;
  std::map<uintptr_t, std::shared_ptr<Allocation>> by_address ABSL_GUARDED_BY(mutex);
};

// Like the memory that it is about, one for the process and never destroyed.
Table& TheTable() {
  static Table& table = *new Table;
  return table;
}

}  // namespace

void MemoryAllocated(void* p, size_t bytes) {
  if (!KernelsAreChecked() || bytes == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(p);
  auto allocation = std::make_shared<Allocation>(address, bytes);
  Table& table = TheTable();
  const MutexLock lock(table.mutex);
  table.by_address[address] = std::move(allocation);
}

void MemoryFreed(void* p) {
  if (!KernelsAreChecked()) return;
  Table& table = TheTable();
  const MutexLock lock(table.mutex);
  table.by_address.erase(reinterpret_cast<uintptr_t>(p));
}

void MemoryWritten(const void* p, size_t bytes) {
  if (!KernelsAreChecked() || bytes == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(p);
  Table& table = TheTable();
  const MutexLock lock(table.mutex);
  auto next = table.by_address.upper_bound(address);
  if (next == table.by_address.begin()) return;
  const Allocation& memory = *std::prev(next)->second;
  const size_t offset = address - memory.begin;
  if (offset >= memory.bytes) return;
  std::memset(memory.written.data() + offset, 1, std::min(bytes, memory.bytes - offset));
}

std::vector<std::shared_ptr<Allocation>> KnownMemory() {
  Table& table = TheTable();
  const MutexLock lock(table.mutex);
  std::vector<std::shared_ptr<Allocation>> known;
  known.reserve(table.by_address.size());
  for (const auto& [address, allocation] : table.by_address) known.push_back(allocation);
  return known;
}

}  // namespace sluice::simt
