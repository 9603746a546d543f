#include "kernels/cuda/blas.h"

#include <fmt/format.h>
#include <library_types.h>

#include <iterator>
#include <utility>

#include "base/status_macros.h"

namespace sluice::cuda {
namespace {

constexpr int64_t kAlignment = 16;
// Each is about 1 KiB. Prefills differ in M: a server sees many shapes in its life.
constexpr size_t kMaxPlans = 4096;

bool FindAll(const FindFunction& find, BlasFunctions& f, const char*& missing) {
  const auto get = [&](const char* name, auto*& function) {
    missing = name;
    return FindInto(find, name, function);
  };
  return get("cublasLtGetVersion", f.version) && get("cublasLtCreate", f.create) &&
         get("cublasLtDestroy", f.destroy) && get("cublasLtMatmulDescCreate", f.create_operation) &&
         get("cublasLtMatmulDescDestroy", f.destroy_operation) &&
         get("cublasLtMatmulDescSetAttribute", f.set_operation) &&
         get("cublasLtMatrixLayoutCreate", f.create_layout) &&
         get("cublasLtMatrixLayoutDestroy", f.destroy_layout) &&
         get("cublasLtMatmulPreferenceCreate", f.create_preference) &&
         get("cublasLtMatmulPreferenceDestroy", f.destroy_preference) &&
         get("cublasLtMatmulPreferenceSetAttribute", f.set_preference) &&
         get("cublasLtMatmulAlgoGetHeuristic", f.heuristics) && get("cublasLtMatmul", f.multiply);
}

cudaDataType_t DataTypeOf(BlasType type) {
  switch (type) {
    case BlasType::kF16:
      return CUDA_R_16F;
    case BlasType::kBf16:
      return CUDA_R_16BF;
    case BlasType::kE4m3:
      return CUDA_R_8F_E4M3;
  }
  return CUDA_R_32F;
}

int64_t BytesOf(BlasType type) { return type == BlasType::kE4m3 ? 1 : 2; }

absl::Status Failed(const char* what, BlasStatus status, const BlasProduct& p) {
  const std::string message = fmt::format("{} of cuBLASLt failed with status {} for {} x {} x {}",
                                          what, status, p.m, p.n, p.k);
  const bool lacks = status == kBlasNotSupported || status == kBlasArchMismatch;
  return lacks ? absl::UnimplementedError(message) : absl::InternalError(message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Blas>> Blas::Open(FindFunction find) {
  if (find == nullptr) {
    ASSIGN_OR_RETURN(find, OpenLibrary("libcublasLt.so.13"));
  }
  BlasFunctions functions = {};
  const char* missing = nullptr;
  if (!FindAll(find, functions, missing)) {
    return absl::NotFoundError(fmt::format("cuBLASLt has no function {}", missing));
  }
  std::unique_ptr<Blas> blas(new Blas(functions));
  if (const BlasStatus status = functions.create(&blas->handle_); status != kBlasSuccess) {
    blas->handle_ = nullptr;
    return absl::UnavailableError(fmt::format("cuBLASLt does not start: status {}", status));
  }
  if (const cudaError_t error = cudaMalloc(&blas->workspace_, kWorkspaceBytes);
      error != cudaSuccess) {
    return absl::ResourceExhaustedError(fmt::format("{} bytes for cuBLASLt's workspace: {}",
                                                    kWorkspaceBytes, cudaGetErrorString(error)));
  }
  return blas;
}

Blas::~Blas() {
  for (const auto& [shape, plan] : plans_) Destroy(plan);
  if (workspace_ != nullptr) (void)cudaFree(workspace_);
  if (handle_ != nullptr) functions_.destroy(handle_);
}

bool Blas::Supports(const BlasProduct& p) {
  const auto aligned = [](const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0;
  };
  const int64_t bytes = BytesOf(p.type);
  return p.m > 0 && p.n > 0 && p.k > 0 && p.a_stride >= p.k && p.w_stride >= p.k &&
         p.d_stride >= p.n && p.k * bytes % kAlignment == 0 && p.n * bytes % kAlignment == 0 &&
         p.a_stride * bytes % kAlignment == 0 && p.w_stride * bytes % kAlignment == 0 &&
         p.d_stride % 4 == 0 && aligned(p.a) && aligned(p.w) && aligned(p.d);
}

Blas::Shape Blas::ShapeOf(const BlasProduct& p) {
  return {p.type, p.m, p.n, p.k, p.a_stride, p.w_stride, p.d_stride};
}

void Blas::Destroy(const Plan& plan) const {
  if (plan.operation != nullptr) functions_.destroy_operation(plan.operation);
  for (void* const layout : {plan.w, plan.a, plan.d}) {
    if (layout != nullptr) functions_.destroy_layout(layout);
  }
}

// cuBLASLt's matrices are stored by columns: a [M,K] by rows is its [K,M], and
// d^T [N,M] = w [N,K] . a^T. Its A is our w, transposed; fp8 has this form only.
absl::Status Blas::Describe(const BlasProduct& p, Plan& plan) const {
  const auto check = [&p](BlasStatus status) {
    return status == kBlasSuccess ? absl::OkStatus() : Failed("a description", status, p);
  };
  const cudaDataType_t type = DataTypeOf(p.type);
  RETURN_IF_ERROR(check(functions_.create_operation(&plan.operation, kBlasComputeF32, CUDA_R_32F)));
  RETURN_IF_ERROR(check(functions_.set_operation(plan.operation, kBlasTransposeA, &kBlasTransposed,
                                                 sizeof(kBlasTransposed))));
  RETURN_IF_ERROR(check(
      functions_.set_operation(plan.operation, kBlasTransposeB, &kBlasPlain, sizeof(kBlasPlain))));
  const auto k = static_cast<uint64_t>(p.k), m = static_cast<uint64_t>(p.m),
             n = static_cast<uint64_t>(p.n);
  RETURN_IF_ERROR(check(functions_.create_layout(&plan.w, type, k, n, p.w_stride)));
  RETURN_IF_ERROR(check(functions_.create_layout(&plan.a, type, k, m, p.a_stride)));
  return check(functions_.create_layout(&plan.d, CUDA_R_32F, n, m, p.d_stride));
}

absl::Status Blas::Choose(const BlasProduct& p, Plan& plan) const {
  void* preference = nullptr;
  BlasStatus status = functions_.create_preference(&preference);
  const auto set = [&](int attribute, const auto& value) {
    if (status == kBlasSuccess) {
      status = functions_.set_preference(preference, attribute, &value, sizeof(value));
    }
  };
  set(kBlasMaxWorkspace, kWorkspaceBytes);
  for (const int operand : {kBlasAlignmentA, kBlasAlignmentB, kBlasAlignmentC, kBlasAlignmentD}) {
    set(operand, static_cast<uint32_t>(kAlignment));
  }
  BlasHeuristic best = {};
  int found = 0;
  if (status == kBlasSuccess) {
    status = functions_.heuristics(handle_, plan.operation, plan.w, plan.a, plan.d, plan.d,
                                   preference, 1, &best, &found);
  }
  if (preference != nullptr) functions_.destroy_preference(preference);
  if (status != kBlasSuccess) return Failed("a choice", status, p);
  if (found == 0 || best.state != kBlasSuccess) return Failed("a choice", kBlasNotSupported, p);
  plan.algorithm = best.algorithm;
  return absl::OkStatus();
}

absl::StatusOr<Blas::Plan*> Blas::FindPlan(const BlasProduct& p) {
  if (!Supports(p)) {
    return absl::InvalidArgumentError(fmt::format(
        "a product of {} x {} x {} whose rows or addresses are no multiples of {} bytes", p.m, p.n,
        p.k, kAlignment));
  }
  const Shape shape = ShapeOf(p);
  if (const auto it = plans_.find(shape); it != plans_.end()) return &it->second;
  Plan plan;
  absl::Status status = Describe(p, plan);
  if (status.ok()) status = Choose(p, plan);
  if (!status.ok()) {
    Destroy(plan);
    return status;
  }
  if (plans_.size() >= kMaxPlans) {
    for (const auto& [old_shape, old] : plans_) Destroy(old);
    plans_.clear();
  }
  return &plans_.emplace(shape, plan).first->second;
}

absl::Status Blas::Prepare(const BlasProduct& product) { return FindPlan(product).status(); }

absl::Status Blas::Enqueue(const BlasProduct& p, cudaStream_t stream) {
  ASSIGN_OR_RETURN(Plan* const plan, FindPlan(p));
  if (p.type == BlasType::kE4m3) {
    const std::pair<int, const float*> scales[] = {{kBlasScaleA, p.scale_w},
                                                   {kBlasScaleB, p.scale_a}};
    for (const auto& [attribute, scale] : scales) {
      const BlasStatus status = functions_.set_operation(
          plan->operation, attribute, static_cast<const void*>(&scale), sizeof(scale));
      if (status != kBlasSuccess) return Failed("a scale", status, p);
    }
  }
  const BlasStatus status = functions_.multiply(
      handle_, plan->operation, &p.alpha, p.w, plan->w, p.a, plan->a, &p.beta, p.d, plan->d, p.d,
      plan->d, &plan->algorithm, workspace_, kWorkspaceBytes, stream);
  return status == kBlasSuccess ? absl::OkStatus() : Failed("a product", status, p);
}

}  // namespace sluice::cuda
