// Products of matrices by NVIDIA's cuBLASLt, for shapes where it is faster than our kernels (the
// prefill of bf16 and fp8 weights on Hopper and Blackwell). The library is opened when a device is
// used, and only then; without it our own kernels do everything.
//
// cuBLASLt chooses its kernel, and so its order of addition, by all of M, N and K: no part of
// --deterministic.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/blas_functions.h"
#include "kernels/cuda/library.h"

namespace sluice::cuda {

enum class BlasType : uint8_t { kF16, kBf16, kE4m3 };

// d[M,N] f32 = alpha * scale_a * scale_w * a[M,K] . w[N,K]^T + beta * d. Rows lie *_stride elements
// apart. Scales are one f32 on the device each and of e4m3 only; null: 1.
struct BlasProduct {
  BlasType type = BlasType::kBf16;
  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  int64_t a_stride = 0;
  const void* w = nullptr;
  int64_t w_stride = 0;
  const float *scale_a = nullptr, *scale_w = nullptr;
  float alpha = 1, beta = 0;
  float* d = nullptr;
  int64_t d_stride = 0;
};

// Of one device and one stream: its products share a workspace. Not thread-safe.
class Blas {
 public:
  // On the current device. `find`: null for the library itself.
  // Errors: NotFound without the library or one of its functions; Unavailable if it does not start;
  // ResourceExhausted if there is no memory for the workspace.
  static absl::StatusOr<std::unique_ptr<Blas>> Open(FindFunction find = nullptr);
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  // Whether pointers and strides are as the fast kernels want them: multiples of 16 bytes.
  [[nodiscard]] static bool Supports(const BlasProduct& product);

  // Chooses the kernel for a shape, which takes some 0.1 ms; Enqueue does it if nobody has.
  // Captures of graphs want it done before. Errors: InvalidArgument if not Supports();
  // Unimplemented if the device has no such product.
  absl::Status Prepare(const BlasProduct& product);
  // Errors: Prepare's; Internal, with cuBLASLt's status.
  absl::Status Enqueue(const BlasProduct& product, cudaStream_t stream);

  [[nodiscard]] size_t version() const { return functions_.version(); }

  // What a device's memory budget must leave for Open.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // NVIDIA's advice for Hopper

 private:
  using Shape = std::tuple<BlasType, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;
  struct Plan {
    void *operation = nullptr, *w = nullptr, *a = nullptr, *d = nullptr;
    BlasAlgorithm algorithm = {};
  };

  explicit Blas(const BlasFunctions& functions) : functions_(functions) {}
  static Shape ShapeOf(const BlasProduct& product);
  absl::StatusOr<Plan*> FindPlan(const BlasProduct& product);
  absl::Status Describe(const BlasProduct& product, Plan& plan) const;
  absl::Status Choose(const BlasProduct& product, Plan& plan) const;
  void Destroy(const Plan& plan) const;

  const BlasFunctions functions_;
  void *handle_ = nullptr, *workspace_ = nullptr;
  std::map<Shape, Plan> plans_;
};

}  // namespace sluice::cuda
