// Hands a model's matrices to a backend: makes those that their file holds in a form of its own,
// rounds others on the way if asked to, lets go of the file's bytes once they are packed, and tells
// how far it is. One linear op's matrices at a time are in memory beside what the backend has.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "model/weight_views.h"

namespace sluice {

struct LoadOptions {
  // Matrices of F32, F16 and BF16 are rounded to this type, the head to Q8_0, when their columns
  // are whole blocks. Vectors, the experts' router and an embedding that is not also the head stay
  // as they are.
  std::optional<DType> quantise;
  int32_t threads = 1;  // for the rounding
  // Called for each part that is packed: its bytes are not needed any more.
  std::function<void(std::span<const uint8_t> bytes)> release;
  // Called after each matrix with the bytes of all matrices so far, in the types of their views.
  std::function<void(int64_t bytes)> progress;
};

enum class LinearRole { kPlain, kHead, kRouter };

// One load. Not thread-safe.
class LinearLoader {
 public:
  LinearLoader(LoadOptions options, Ops& ops) : options_(std::move(options)), ops_(ops) {}

  // As Ops::LoadLinear, whose packing does not need the parts afterwards. Errors: also those of
  // QuantiseRows and of MakeRows.
  absl::StatusOr<Linear> Load(std::span<const WeightView> parts,
                              LinearRole role = LinearRole::kPlain);
  // The same as Ops::LoadExperts.
  absl::StatusOr<Experts> LoadExperts(std::span<const WeightView> parts, int32_t num_experts);

 private:
  // The parts, those that are made or rounded in memory of `rounded`.
  absl::StatusOr<std::vector<WeightView>> Round(std::span<const WeightView> parts, LinearRole role,
                                                std::vector<std::unique_ptr<uint8_t[]>>& rounded);
  // Lets go of packed parts and tells of them.
  void Packed(std::span<const WeightView> parts);

  const LoadOptions options_;
  Ops& ops_;
  int64_t bytes_ = 0;
};

// The type that a matrix gets, the one it has if it is not to be rounded.
[[nodiscard]] DType RoundedType(const WeightView& weight, LinearRole role,
                                std::optional<DType> quantise);

// Bytes of all matrices once they are loaded, give or take what a backend's layout adds. The
// embedding counts only where it is also the head: as a table it stays in its file.
[[nodiscard]] int64_t LinearBytes(const WeightViews& weights, std::optional<DType> quantise);
// The same for a backend that gives a matrix `bytes` of its own, whose tables are matrices too.
[[nodiscard]] int64_t DeviceBytes(
    const WeightViews& weights, std::optional<DType> quantise,
    const std::function<int64_t(DType dtype, int64_t rows, int64_t cols)>& bytes);

}  // namespace sluice
