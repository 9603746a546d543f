#include "kernels/simt/nccl.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "kernels/cuda/collectives_functions.h"
#include "kernels/half.h"
#include "kernels/simt/memory.h"
#include "kernels/simt/runtime.h"

namespace sluice::simt {
namespace {

using cuda::CollectiveId;
using cuda::CollectiveStatus;

constexpr int kVersion = 22809;
constexpr int kGather = -1;  // in place of a reduction

// What a rank brings to a round.
struct Part {
  const std::byte* send = nullptr;
  std::byte* receive = nullptr;
  size_t count = 0;
  int type = 0, reduction = 0;
};

// One collective of all ranks.
struct Round {
  std::vector<Part> parts;
  int num_begun = 0, num_ended = 0;
  bool computed = false;
  std::string disagreement;  // "" if there is none
};

struct Clique {
  int num_ranks = 0;
  std::set<int> joined;  // ranks
  // Rounds and what communicators know of them: the runtime's lock. The rest: the registry's.
  std::map<uint64_t, Round> rounds;
  bool aborted = false;  // by some rank: nothing is computed any more
  struct OutsideGroup {
    std::thread::id thread;
    int rank = 0;
  };
  std::map<uint64_t, std::vector<OutsideGroup>> calls;  // by round
};

struct Rank {
  std::shared_ptr<Clique> clique;  // owners: its ranks, and the registry until all have joined
  int rank = 0, device = 0;
  uint64_t num_calls = 0;
  uint64_t num_begun = 0;         // rounds
  const void* current = nullptr;  // whose collective is in round num_begun - 1
  bool aborted = false;           // its collectives end at once
  CollectiveStatus async_error = cuda::kCollectiveSuccess;
};

struct Registry {
  Mutex mutex;
  CondVar joined;
  uint64_t num_ids = 0;
  std::map<uint64_t, std::shared_ptr<Clique>> cliques;  // by id
  std::map<void*, std::shared_ptr<Rank>> ranks;         // by handle; owners: this and work
  static Registry& Get() {
    static auto* const registry = new Registry;
    return *registry;
  }
};

// Of the calling thread: what waits for the end of its group.
struct Group {
  int depth = 0;
  std::vector<std::function<CollectiveStatus()>> joins, collectives;
};
thread_local Group group;

std::shared_ptr<Rank> FindRank(void* handle) {
  Registry& registry = Registry::Get();
  MutexLock lock(registry.mutex);
  const auto it = registry.ranks.find(handle);
  return it == registry.ranks.end() ? nullptr : it->second;
}

size_t BytesOf(int type) {
  if (type == cuda::kCollectiveUint8) return 1;
  return type == cuda::kCollectiveF32 ? 4 : 2;
}

float Load(const Part& part, size_t i) {
  const std::byte* const at = part.send + i * BytesOf(part.type);
  if (part.type == cuda::kCollectiveF32) {
    float value = 0;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  return part.type == cuda::kCollectiveF16 ? HalfToFloat(bits) : Bf16ToFloat(bits);
}

void Store(const Part& part, size_t i, float value) {
  std::byte* const at = part.receive + i * BytesOf(part.type);
  if (part.type == cuda::kCollectiveF32) {
    std::memcpy(at, &value, sizeof(value));
    return;
  }
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint16_t rounded = part.type == cuda::kCollectiveF16
                               ? FloatToHalf(std::clamp(value, -65504.0F, 65504.0F))
                               : static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
  std::memcpy(at, &rounded, sizeof(rounded));
}

void Reduce(const Round& round) {
  const Part& first = round.parts.front();
  std::vector<float> sums(first.count);
  for (size_t i = 0; i < first.count; ++i) {
    float sum = Load(first, i);
    for (size_t r = 1; r < round.parts.size(); ++r) {
      const float value = Load(round.parts[r], i);
      sum = first.reduction == cuda::kCollectiveMax ? std::max(sum, value) : sum + value;
    }
    sums[i] = sum;
  }
  for (const Part& part : round.parts) {
    for (size_t i = 0; i < part.count; ++i) Store(part, i, sums[i]);
    MemoryWritten(part.receive, part.count * BytesOf(part.type));
  }
}

void Gather(const Round& round) {
  const size_t bytes = round.parts.front().count * BytesOf(round.parts.front().type);
  std::vector<std::byte> all(bytes * round.parts.size());
  for (size_t r = 0; r < round.parts.size(); ++r) {
    std::memcpy(&all[r * bytes], round.parts[r].send, bytes);
  }
  for (const Part& part : round.parts) {
    std::memcpy(part.receive, all.data(), all.size());
    MemoryWritten(part.receive, all.size());
  }
}

void Compute(Round& round) {
  round.computed = true;
  const Part& first = round.parts.front();
  for (size_t r = 1; r < round.parts.size(); ++r) {
    const Part& part = round.parts[r];
    if (part.count != first.count || part.type != first.type || part.reduction != first.reduction) {
      round.disagreement = fmt::format(
          "rank {} has {} elements of type {} in operation {}, rank 0 {} of type {} in {}", r,
          part.count, part.type, part.reduction, first.count, first.type, first.reduction);
      return;
    }
  }
  if (first.count == 0) return;
  first.reduction == kGather ? Gather(round) : Reduce(round);
}

// A collective has begun once it is the next of its stream and the rank's last has ended. `self`
// tells those of one rank apart.
bool Begins(Rank& rank, const void* self, const Part& part) {
  Clique& clique = *rank.clique;
  if (rank.aborted) return true;
  if (rank.current == nullptr) {
    rank.current = self;
    Round& round = clique.rounds[rank.num_begun++];
    round.parts.resize(static_cast<size_t>(clique.num_ranks));
    round.parts[static_cast<size_t>(rank.rank)] = part;
    ++round.num_begun;
  }
  return rank.current == self && clique.rounds[rank.num_begun - 1].num_begun == clique.num_ranks;
}

void Ends(Rank& rank) {
  Clique& clique = *rank.clique;
  if (rank.aborted || clique.aborted) return;
  const auto it = clique.rounds.find(rank.num_begun - 1);
  Round& round = it->second;
  if (!round.computed) Compute(round);
  rank.current = nullptr;
  if (!round.disagreement.empty()) {
    rank.async_error = cuda::kCollectiveInvalidUsage;
    FailWork(cudaErrorLaunchFailure, "ranks disagree: " + round.disagreement);
  }
  if (++round.num_ended == clique.num_ranks) clique.rounds.erase(it);
}

CollectiveStatus EnqueueCollective(const std::shared_ptr<Rank>& rank, const Part& part,
                                   cudaStream_t stream) {
  const auto self = std::make_shared<char>();
  const char* const name = part.reduction == kGather ? "ncclAllGather" : "ncclAllReduce";
  const cudaError_t error = EnqueueWork(
      name, stream, [rank] { Ends(*rank); },
      [rank, self, part] { return Begins(*rank, self.get(), part); });
  return error == cudaSuccess ? cuda::kCollectiveSuccess : cuda::kCollectiveCudaError;
}

// A card would wait in the first rank's call for the second's, which the same thread is to make.
bool WouldHang(Rank& rank) {
  Registry& registry = Registry::Get();
  MutexLock lock(registry.mutex);
  const uint64_t round = rank.num_calls++;
  if (group.depth > 0) return false;
  std::vector<Clique::OutsideGroup>& calls = rank.clique->calls[round];
  const auto self = std::this_thread::get_id();
  const bool hangs =
      std::ranges::any_of(calls, [&](const auto& call) { return call.thread == self; });
  calls.push_back({self, rank.rank});
  if (calls.size() == static_cast<size_t>(rank.clique->num_ranks)) rank.clique->calls.erase(round);
  return hangs;
}

CollectiveStatus Collective(void* handle, const Part& part, cudaStream_t stream) {
  const std::shared_ptr<Rank> rank = FindRank(handle);
  if (rank == nullptr) return cuda::kCollectiveInvalidArgument;
  const bool reduces = part.reduction != kGather;
  const bool known_type = part.type == cuda::kCollectiveF16 || part.type == cuda::kCollectiveBf16 ||
                          part.type == cuda::kCollectiveF32 ||
                          (part.type == cuda::kCollectiveUint8 && !reduces);
  const size_t bytes = part.count * BytesOf(part.type);
  const size_t ranks = reduces ? 1 : static_cast<size_t>(rank->clique->num_ranks);
  int device = -1;
  if (cudaStreamGetDevice(stream, &device) != cudaSuccess) return cuda::kCollectiveCudaError;
  if (!known_type || device != rank->device || !IsOnDevice(part.send, bytes, stream) ||
      !IsOnDevice(part.receive, bytes * ranks, stream)) {
    return cuda::kCollectiveInvalidArgument;
  }
  if (WouldHang(*rank)) return cuda::kCollectiveInvalidUsage;
  if (group.depth == 0) return EnqueueCollective(rank, part, stream);
  group.collectives.push_back(
      [rank, part, stream] { return EnqueueCollective(rank, part, stream); });
  return cuda::kCollectiveSuccess;
}

CollectiveStatus AllReduce(const void* send, void* receive, size_t count, int type, int reduction,
                           void* rank, cudaStream_t stream) {
  if (reduction != cuda::kCollectiveSum && reduction != cuda::kCollectiveMax) {
    return cuda::kCollectiveInvalidArgument;
  }
  return Collective(rank,
                    {static_cast<const std::byte*>(send), static_cast<std::byte*>(receive), count,
                     type, reduction},
                    stream);
}

CollectiveStatus AllGather(const void* send, void* receive, size_t count, int type, void* rank,
                           cudaStream_t stream) {
  return Collective(
      rank,
      {static_cast<const std::byte*>(send), static_cast<std::byte*>(receive), count, type, kGather},
      stream);
}

CollectiveStatus Version(int* version) {
  *version = kVersion;
  return cuda::kCollectiveSuccess;
}

CollectiveStatus MakeId(CollectiveId* id) {
  Registry& registry = Registry::Get();
  MutexLock lock(registry.mutex);
  *id = {};
  const uint64_t number = ++registry.num_ids;
  std::memcpy(id->bytes, &number, sizeof(number));
  registry.cliques[number] = std::make_shared<Clique>();
  return cuda::kCollectiveSuccess;
}

CollectiveStatus Join(void** handle, int num_ranks, const CollectiveId& id, int rank, int device) {
  uint64_t number = 0;
  std::memcpy(&number, id.bytes, sizeof(number));
  Registry& registry = Registry::Get();
  MutexLock lock(registry.mutex);
  const auto it = registry.cliques.find(number);
  if (it == registry.cliques.end() || rank < 0 || rank >= num_ranks) {
    return cuda::kCollectiveInvalidArgument;
  }
  const std::shared_ptr<Clique> clique = it->second;
  if (clique->num_ranks == 0) clique->num_ranks = num_ranks;
  if (clique->num_ranks != num_ranks || !clique->joined.insert(rank).second) {
    return cuda::kCollectiveInvalidArgument;
  }
  auto made = std::make_shared<Rank>(Rank{.clique = clique, .rank = rank, .device = device});
  *handle = made.get();
  registry.ranks[*handle] = std::move(made);
  if (static_cast<int>(clique->joined.size()) == num_ranks) registry.cliques.erase(number);
  registry.joined.notify_all();
  return cuda::kCollectiveSuccess;
}

// Until all ranks have joined.
CollectiveStatus AwaitPeers(const Rank& rank) {
  Registry& registry = Registry::Get();
  MutexLock lock(registry.mutex);
  const Clique& clique = *rank.clique;
  const auto timeout = absl::ToChronoNanoseconds(StallTimeout());
  return registry.joined.wait_for(
             registry.mutex, timeout,
             [&clique] { return static_cast<int>(clique.joined.size()) == clique.num_ranks; })
             ? cuda::kCollectiveSuccess
             : cuda::kCollectiveSystemError;
}

CollectiveStatus InitRank(void** handle, int num_ranks, CollectiveId id, int rank) {
  int device = 0;
  if (handle == nullptr) return cuda::kCollectiveInvalidArgument;
  if (cudaGetDevice(&device) != cudaSuccess) return cuda::kCollectiveCudaError;
  const CollectiveStatus status = Join(handle, num_ranks, id, rank, device);
  if (status != cuda::kCollectiveSuccess) return status;
  if (group.depth == 0) return AwaitPeers(*FindRank(*handle));
  group.joins.push_back([joined = FindRank(*handle)] { return AwaitPeers(*joined); });
  return cuda::kCollectiveSuccess;
}

CollectiveStatus InitAll(void** handles, int num_devices, const int* devices) {
  int present = 0;
  if (cudaGetDeviceCount(&present) != cudaSuccess) return cuda::kCollectiveCudaError;
  if (handles == nullptr || num_devices < 1) return cuda::kCollectiveInvalidArgument;
  std::set<int> used;
  for (int rank = 0; rank < num_devices; ++rank) {
    const int device = devices == nullptr ? rank : devices[rank];
    if (device < 0 || device >= present || !used.insert(device).second) {
      return cuda::kCollectiveInvalidArgument;
    }
  }
  CollectiveId id = {};
  MakeId(&id);
  for (int rank = 0; rank < num_devices; ++rank) {
    Join(&handles[rank], num_devices, id, rank, devices == nullptr ? rank : devices[rank]);
  }
  return cuda::kCollectiveSuccess;
}

CollectiveStatus Destroy(void* handle) {
  Registry& registry = Registry::Get();
  MutexLock lock(registry.mutex);
  return registry.ranks.erase(handle) == 1 ? cuda::kCollectiveSuccess
                                           : cuda::kCollectiveInvalidArgument;
}

CollectiveStatus Abort(void* handle) {
  const std::shared_ptr<Rank> rank = FindRank(handle);
  if (rank == nullptr) return cuda::kCollectiveInvalidArgument;
  ChangeWork([&] { rank->aborted = rank->clique->aborted = true; });
  return Destroy(handle);
}

CollectiveStatus AsyncError(void* handle, CollectiveStatus* error) {
  const std::shared_ptr<Rank> rank = FindRank(handle);
  if (rank == nullptr || error == nullptr) return cuda::kCollectiveInvalidArgument;
  *error = rank->async_error;
  return cuda::kCollectiveSuccess;
}

CollectiveStatus GroupStart() {
  ++group.depth;
  return cuda::kCollectiveSuccess;
}

CollectiveStatus GroupEnd() {
  if (group.depth == 0) return cuda::kCollectiveInvalidUsage;
  if (--group.depth > 0) return cuda::kCollectiveSuccess;
  const Group ended = std::exchange(group, {});
  CollectiveStatus first = cuda::kCollectiveSuccess;
  for (const auto* const calls : {&ended.joins, &ended.collectives}) {
    for (const auto& call : *calls) {
      const CollectiveStatus status = call();
      if (first == cuda::kCollectiveSuccess) first = status;
    }
  }
  return first;
}

const char* ErrorString(CollectiveStatus error) {
  switch (error) {
    case cuda::kCollectiveSuccess:
      return "no error";
    case cuda::kCollectiveCudaError:
      return "a call of CUDA failed";
    case cuda::kCollectiveSystemError:
      return "a peer did not come";
    case cuda::kCollectiveInvalidArgument:
      return "invalid argument";
    case cuda::kCollectiveInvalidUsage:
      return "invalid usage";
    default:
      return "unknown error";
  }
}

}  // namespace

void* FindNcclFunction(const char* name) {
  const cuda::CollectiveFunctions f = {Version,   MakeId,     InitRank,   InitAll,
                                       Destroy,   Abort,      AsyncError, AllReduce,
                                       AllGather, GroupStart, GroupEnd,   ErrorString};
  const struct {
    std::string_view name;
    void* function;
  } functions[] = {
      {"ncclGetVersion", reinterpret_cast<void*>(f.version)},
      {"ncclGetUniqueId", reinterpret_cast<void*>(f.make_id)},
      {"ncclCommInitRank", reinterpret_cast<void*>(f.init_rank)},
      {"ncclCommInitAll", reinterpret_cast<void*>(f.init_all)},
      {"ncclCommDestroy", reinterpret_cast<void*>(f.destroy)},
      {"ncclCommAbort", reinterpret_cast<void*>(f.abort)},
      {"ncclCommGetAsyncError", reinterpret_cast<void*>(f.async_error)},
      {"ncclAllReduce", reinterpret_cast<void*>(f.all_reduce)},
      {"ncclAllGather", reinterpret_cast<void*>(f.all_gather)},
      {"ncclGroupStart", reinterpret_cast<void*>(f.group_start)},
      {"ncclGroupEnd", reinterpret_cast<void*>(f.group_end)},
      {"ncclGetErrorString", reinterpret_cast<void*>(f.error_string)},
  };
  for (const auto& entry : functions) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

}  // namespace sluice::simt
