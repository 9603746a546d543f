#include "kernels/cuda/ranks.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/status_macros.h"

namespace sluice::cuda {

absl::StatusOr<std::unique_ptr<RankGroup>> RankGroup::Create(const std::vector<int>& devices,
                                                             const FindFunction& find) {
  ASSIGN_OR_RETURN(std::unique_ptr<Collectives> library, Collectives::Open(find));
  ASSIGN_OR_RETURN(std::vector<Communicator> communicators, library->InitAll(devices));
  auto group = std::unique_ptr<RankGroup>(new RankGroup(std::move(library)));
  for (Communicator& communicator : communicators) {
    auto member = std::make_unique<Member>();
    MutexLock lock(member->mutex);
    member->communicator = std::move(communicator);
    group->members_.push_back(std::move(member));
  }
  return group;
}

RankGroup::~RankGroup() {
  for (const auto& member : members_) {
    if (member->aborter.joinable()) member->aborter.join();
  }
}

absl::Status RankGroup::Run(int32_t rank,
                            absl::FunctionRef<absl::Status(const Communicator&)> enqueue) {
  Member& member = *members_[static_cast<size_t>(rank)];
  {
    MutexLock lock(member.mutex);
    if (member.communicator.has_value()) return enqueue(*member.communicator);
  }
  MutexLock lock(mutex_);
  return failure_;
}

absl::Status RankGroup::Fail(int32_t rank, const absl::Status& status) {
  MutexLock lock(mutex_);
  if (!failure_.ok()) return failure_;
  failure_ =
      absl::Status(status.code(), fmt::format("rank {}: {}", rank, std::string(status.message())));
  met_.notify_all();
  for (const auto& owner : members_) {
    owner->aborter = std::thread([&member = *owner] {
      std::optional<Communicator> taken;
      {
        MutexLock member_lock(member.mutex);
        taken = std::move(member.communicator);
        member.communicator.reset();
      }
      taken->Abort();
    });
  }
  return failure_;
}

void RankGroup::Meet() {
  MutexLock lock(mutex_);
  const int64_t meeting = num_meetings_;
  if (++num_here_ == size()) {
    num_here_ = 0;
    ++num_meetings_;
    met_.notify_all();
  }
  while (num_meetings_ == meeting && failure_.ok()) met_.wait(mutex_);
}

absl::Status RankGroup::Outcome(int32_t rank, const absl::Status& status) {
  if (!status.ok()) return Fail(rank, status);
  const absl::Status exchanges =
      Run(rank, [](const Communicator& communicator) { return communicator.Check(); });
  return exchanges.ok() ? exchanges : Fail(rank, exchanges);
}

}  // namespace sluice::cuda
