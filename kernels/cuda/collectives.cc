#include "kernels/cuda/collectives.h"

#include <fmt/format.h>

#include <utility>

#include "base/status_macros.h"

namespace sluice::cuda {
namespace {

bool FindAll(const FindFunction& find, CollectiveFunctions& f, const char*& missing) {
  const auto get = [&](const char* name, auto*& function) {
    missing = name;
    return FindInto(find, name, function);
  };
  return get("ncclGetVersion", f.version) && get("ncclGetUniqueId", f.make_id) &&
         get("ncclCommInitRank", f.init_rank) && get("ncclCommInitAll", f.init_all) &&
         get("ncclCommDestroy", f.destroy) && get("ncclCommAbort", f.abort) &&
         get("ncclCommGetAsyncError", f.async_error) && get("ncclAllReduce", f.all_reduce) &&
         get("ncclAllGather", f.all_gather) && get("ncclGroupStart", f.group_start) &&
         get("ncclGroupEnd", f.group_end) && get("ncclGetErrorString", f.error_string);
}

absl::Status ToStatus(const CollectiveFunctions& f, const char* what, CollectiveStatus status) {
  if (status == kCollectiveSuccess) return absl::OkStatus();
  return absl::InternalError(fmt::format("{} of NCCL failed: {}", what, f.error_string(status)));
}

int TypeOf(CollectiveType type) {
  switch (type) {
    case CollectiveType::kU8:
      return kCollectiveUint8;
    case CollectiveType::kF16:
      return kCollectiveF16;
    case CollectiveType::kBf16:
      return kCollectiveBf16;
    case CollectiveType::kF32:
      return kCollectiveF32;
  }
  return -1;
}

}  // namespace

Communicator::~Communicator() {
  if (handle_ != nullptr) functions_->destroy(handle_);
}

Communicator::Communicator(Communicator&& other) noexcept
    : functions_(other.functions_), handle_(std::exchange(other.handle_, nullptr)) {}

Communicator& Communicator::operator=(Communicator&& other) noexcept {
  std::swap(functions_, other.functions_);
  std::swap(handle_, other.handle_);
  return *this;
}

absl::Status Communicator::AllReduceSum(const void* send, void* receive, size_t count,
                                        CollectiveType type, cudaStream_t stream) const {
  return ToStatus(
      *functions_, "a sum",
      functions_->all_reduce(send, receive, count, TypeOf(type), kCollectiveSum, handle_, stream));
}

absl::Status Communicator::AllGather(const void* send, void* receive, size_t count,
                                     CollectiveType type, cudaStream_t stream) const {
  return ToStatus(*functions_, "a gather",
                  functions_->all_gather(send, receive, count, TypeOf(type), handle_, stream));
}

absl::Status Communicator::Check() const {
  CollectiveStatus error = kCollectiveSuccess;
  RETURN_IF_ERROR(ToStatus(*functions_, "a check", functions_->async_error(handle_, &error)));
  return error == kCollectiveInProgress ? absl::OkStatus()
                                        : ToStatus(*functions_, "an exchange", error);
}

void Communicator::Abort() {
  if (handle_ != nullptr) functions_->abort(std::exchange(handle_, nullptr));
}

absl::StatusOr<std::unique_ptr<Collectives>> Collectives::Open(FindFunction find) {
  if (find == nullptr) {
    ASSIGN_OR_RETURN(find, OpenLibrary("libnccl.so.2"));
  }
  CollectiveFunctions functions = {};
  const char* missing = nullptr;
  if (!FindAll(find, functions, missing)) {
    return absl::NotFoundError(fmt::format("NCCL has no function {}", missing));
  }
  return std::unique_ptr<Collectives>(new Collectives(functions));
}

int Collectives::version() const {
  int version = 0;
  return functions_.version(&version) == kCollectiveSuccess ? version : 0;
}

absl::StatusOr<std::vector<Communicator>> Collectives::InitAll(
    absl::Span<const int> devices) const {
  std::vector<void*> handles(devices.size());
  RETURN_IF_ERROR(ToStatus(
      functions_, "a start",
      functions_.init_all(handles.data(), static_cast<int>(devices.size()), devices.data())));
  std::vector<Communicator> ranks;
  ranks.reserve(handles.size());
  for (void* const handle : handles) ranks.emplace_back(functions_, handle);
  return ranks;
}

absl::StatusOr<CollectiveId> Collectives::MakeId() const {
  CollectiveId id = {};
  RETURN_IF_ERROR(ToStatus(functions_, "an id", functions_.make_id(&id)));
  return id;
}

absl::StatusOr<Communicator> Collectives::InitRank(const CollectiveId& id, int num_ranks,
                                                   int rank) const {
  void* handle = nullptr;
  RETURN_IF_ERROR(
      ToStatus(functions_, "a start", functions_.init_rank(&handle, num_ranks, id, rank)));
  return Communicator(functions_, handle);
}

absl::Status Collectives::Group(absl::FunctionRef<absl::Status()> body) const {
  RETURN_IF_ERROR(ToStatus(functions_, "a group", functions_.group_start()));
  const absl::Status status = body();
  const absl::Status end = ToStatus(functions_, "a group", functions_.group_end());
  return status.ok() ? end : status;
}

}  // namespace sluice::cuda
