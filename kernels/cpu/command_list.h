// The list of commands a step enqueues: a kernel, a copy of its arguments and its number of items.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/kernels.h"

namespace sluice::cpu {

struct Command {
  static constexpr size_t kMaxArgsBytes = 192;

  void (*invoke)(const Command& command, int64_t begin, int64_t end,
                 const Worker& worker) = nullptr;
  void (*kernel)() = nullptr;  // of the type that `invoke` knows
  int64_t num_items = 0;
  int64_t grain = 1;  // items handed out at a time
  // Every thread runs all items, for its own scratch; no barrier follows.
  bool each_thread = false;
  alignas(8) std::byte args[kMaxArgsBytes] = {};
};

// Engine thread only. Keeps its memory between steps, so that a step no larger than an earlier one
// allocates nothing.
class CommandList {
 public:
  CommandList() { commands_.reserve(2048); }

  void Clear() { commands_.clear(); }
  [[nodiscard]] const std::vector<Command>& commands() const { return commands_; }

  // grain: items that one hand-out gives a thread; small enough to balance, large enough to hide
  // ~50 ns.
  template <class Args>
  void Add(Kernel<Args> kernel, const Args& args, int64_t num_items, int64_t grain = 1) {
    static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= Command::kMaxArgsBytes);
    SLUICE_CHECK(kernel != nullptr && grain > 0, "grain {}", grain);
    if (num_items > 0) Append(kernel, args, num_items).grain = grain;
  }

  // Every thread runs all items and keeps the result in its scratch for the next command.
  template <class Args>
  void AddForEachThread(Kernel<Args> kernel, const Args& args, int64_t num_items) {
    if (num_items > 0) Append(kernel, args, num_items).each_thread = true;
  }

 private:
  template <class Args>
  Command& Append(Kernel<Args> kernel, const Args& args, int64_t num_items) {
    Command& command = commands_.emplace_back();
    command.invoke = [](const Command& self, int64_t begin, int64_t end, const Worker& worker) {
      reinterpret_cast<Kernel<Args>>(self.kernel)(*reinterpret_cast<const Args*>(self.args), begin,
                                                  end, worker);
    };
    command.kernel = reinterpret_cast<void (*)()>(kernel);
    command.num_items = num_items;
    std::memcpy(command.args, &args, sizeof(Args));
    return command;
  }

  std::vector<Command> commands_;
};

}  // namespace sluice::cpu
