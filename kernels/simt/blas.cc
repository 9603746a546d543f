#include "kernels/simt/blas.h"

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/cuda/blas_functions.h"
#include "kernels/half.h"
#include "kernels/simt/memory.h"
#include "kernels/simt/runtime.h"

namespace sluice::simt {
namespace {

using cuda::BlasAlgorithm;
using cuda::BlasHeuristic;
using cuda::BlasStatus;

constexpr size_t kVersion = 130000, kWorkspaceBytes = size_t{1} << 20;

struct Handle {
  int device = 0;
};
struct Operation {
  int compute = 0;
  int32_t transpose_a = cuda::kBlasPlain, transpose_b = cuda::kBlasPlain;
  const float *scale_a = nullptr, *scale_b = nullptr;
};
struct Layout {
  cudaDataType_t type = CUDA_R_32F;
  uint64_t rows = 0, columns = 0;
  int64_t stride = 0;
  [[nodiscard]] size_t element_bytes() const {
    if (type == CUDA_R_32F) return 4;
    return type == CUDA_R_8F_E4M3 ? 1 : 2;
  }
  [[nodiscard]] size_t bytes() const {
    return ((columns - 1) * static_cast<uint64_t>(stride) + rows) * element_bytes();
  }
};
struct Preference {
  uint64_t max_workspace_bytes = 0;
  uint32_t alignments[4] = {256, 256, 256, 256};
};

template <class T, class... Fields>
BlasStatus Make(void** object, Fields... fields) {
  if (object == nullptr) return cuda::kBlasInvalidValue;
  *object = new T{fields...};
  return cuda::kBlasSuccess;
}

template <class T>
BlasStatus Unmake(void* object) {
  delete static_cast<T*>(object);
  return cuda::kBlasSuccess;
}

template <class T>
BlasStatus Assign(T& to, const void* value, size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) return cuda::kBlasInvalidValue;
  std::memcpy(static_cast<void*>(&to), value, bytes);
  return cuda::kBlasSuccess;
}

size_t Version() { return kVersion; }

BlasStatus Create(void** handle) {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return cuda::kBlasNotInitialized;
  return Make<Handle>(handle, device);
}

BlasStatus CreateOperation(void** operation, int compute, cudaDataType_t scale) {
  if (scale != CUDA_R_32F) return cuda::kBlasNotSupported;
  return Make<Operation>(operation, compute);
}

BlasStatus SetOperation(void* object, int attribute, const void* value, size_t bytes) {
  auto& operation = *static_cast<Operation*>(object);
  switch (attribute) {
    case cuda::kBlasTransposeA:
      return Assign(operation.transpose_a, value, bytes);
    case cuda::kBlasTransposeB:
      return Assign(operation.transpose_b, value, bytes);
    case cuda::kBlasScaleA:
      return Assign(operation.scale_a, value, bytes);
    case cuda::kBlasScaleB:
      return Assign(operation.scale_b, value, bytes);
    default:
      return cuda::kBlasInvalidValue;
  }
}

BlasStatus CreateLayout(void** layout, cudaDataType_t type, uint64_t rows, uint64_t columns,
                        int64_t stride) {
  if (rows == 0 || columns == 0 || stride < static_cast<int64_t>(rows)) {
    return cuda::kBlasInvalidValue;
  }
  return Make<Layout>(layout, type, rows, columns, stride);
}

BlasStatus CreatePreference(void** preference) { return Make<Preference>(preference); }

BlasStatus SetPreference(void* object, int attribute, const void* value, size_t bytes) {
  auto& preference = *static_cast<Preference*>(object);
  if (attribute == cuda::kBlasMaxWorkspace) {
    return Assign(preference.max_workspace_bytes, value, bytes);
  }
  if (attribute < cuda::kBlasAlignmentA || attribute > cuda::kBlasAlignmentD) {
    return cuda::kBlasInvalidValue;
  }
  return Assign(preference.alignments[attribute - cuda::kBlasAlignmentA], value, bytes);
}

// What backs an algorithm: it serves one shape.
BlasAlgorithm AlgorithmFor(const Layout& a, const Layout& b, const Layout& d) {
  return {{static_cast<uint64_t>(a.type), a.rows, a.columns, b.columns,
           static_cast<uint64_t>(a.stride), static_cast<uint64_t>(b.stride),
           static_cast<uint64_t>(d.stride), kVersion}};
}

// The table of types in the documentation of cublasLtMatmul, as far as f32 results go.
BlasStatus CheckTypes(const Operation& operation, const Layout& a, const Layout& b, const Layout& c,
                      const Layout& d) {
  if (operation.compute != cuda::kBlasComputeF32 || a.type != b.type || c.type != CUDA_R_32F ||
      d.type != CUDA_R_32F) {
    return cuda::kBlasNotSupported;
  }
  int device = 0;
  cudaDeviceProp prop;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaGetDeviceProperties(&prop, device) != cudaSuccess) {
    return cuda::kBlasNotInitialized;
  }
  if (a.type == CUDA_R_16F || a.type == CUDA_R_16BF) return cuda::kBlasSuccess;
  const bool has_fp8 = prop.major * 10 + prop.minor >= 89;
  return a.type == CUDA_R_8F_E4M3 && has_fp8 ? cuda::kBlasSuccess : cuda::kBlasNotSupported;
}

// d [n,m] = a [k,n]^T . b [k,m], by columns: the one form that is called.
BlasStatus CheckShapes(const Operation& operation, const Layout& a, const Layout& b,
                       const Layout& c, const Layout& d) {
  if (operation.transpose_a != cuda::kBlasTransposed || operation.transpose_b != cuda::kBlasPlain) {
    return cuda::kBlasNotSupported;
  }
  const bool agree = a.rows == b.rows && d.rows == a.columns && d.columns == b.columns &&
                     c.rows == d.rows && c.columns == d.columns && c.stride == d.stride;
  return agree ? CheckTypes(operation, a, b, c, d) : cuda::kBlasInvalidValue;
}

BlasStatus Heuristics(void* handle, void* operation, void* a, void* b, void* c, void* d,
                      void* preference_object, int max_results, BlasHeuristic results[],
                      int* num_results) {
  if (handle == nullptr || max_results < 1 || num_results == nullptr) {
    return cuda::kBlasInvalidValue;
  }
  *num_results = 0;
  const auto &la = *static_cast<Layout*>(a), &lb = *static_cast<Layout*>(b),
             &lc = *static_cast<Layout*>(c), &ld = *static_cast<Layout*>(d);
  const BlasStatus status = CheckShapes(*static_cast<Operation*>(operation), la, lb, lc, ld);
  if (status != cuda::kBlasSuccess) return status;
  const auto& preference = *static_cast<Preference*>(preference_object);
  const bool aligned =
      std::ranges::all_of(preference.alignments, [](uint32_t bytes) { return bytes % 16 == 0; }) &&
      static_cast<size_t>(la.stride) * la.element_bytes() % 16 == 0 &&
      static_cast<size_t>(lb.stride) * lb.element_bytes() % 16 == 0;
  if (!aligned || preference.max_workspace_bytes < kWorkspaceBytes) return cuda::kBlasNotSupported;
  results[0] = {.algorithm = AlgorithmFor(la, lb, ld),
                .workspace_bytes = kWorkspaceBytes,
                .state = cuda::kBlasSuccess,
                .waves = 1};
  *num_results = 1;
  return cuda::kBlasSuccess;
}

// Source: arXiv:2209.05433, table 1; no infinities.
float E4m3ToFloat(uint8_t bits) {
  const uint32_t exponent = bits >> 3 & 15U, mantissa = bits & 7U;
  float magnitude = 0;
  if (exponent == 15 && mantissa == 7) {
    magnitude = __builtin_nanf("");
  } else if (exponent == 0) {
    magnitude = static_cast<float>(mantissa) * 0x1p-9F;
  } else {
    magnitude = __builtin_ldexpf(static_cast<float>(mantissa + 8), static_cast<int>(exponent) - 10);
  }
  return (bits & 0x80U) != 0 ? -magnitude : magnitude;
}

void ColumnToFloat(const Layout& layout, const std::byte* matrix, uint64_t column, float* out) {
  const std::byte* const begin =
      matrix + column * static_cast<uint64_t>(layout.stride) * layout.element_bytes();
  for (uint64_t i = 0; i < layout.rows; ++i) {
    uint16_t word = 0;
    std::memcpy(&word, begin + i * layout.element_bytes(), layout.element_bytes());
    if (layout.type == CUDA_R_16F) {
      out[i] = HalfToFloat(word);
    } else if (layout.type == CUDA_R_16BF) {
      out[i] = Bf16ToFloat(word);
    } else {
      out[i] = E4m3ToFloat(static_cast<uint8_t>(word));
    }
  }
}

// 16 partial sums, so that the compiler may use vectors; added pairwise.
float Dot(const float* a, const float* b, uint64_t k) {
  constexpr uint64_t kLanes = 16;
  float sums[kLanes] = {};
  uint64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    for (uint64_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < k; ++i) sums[i % kLanes] += a[i] * b[i];
  for (uint64_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint64_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}

struct Product {
  Operation operation;
  float alpha, beta;
  const std::byte *a, *b;
  const float* c;
  float* d;
  Layout a_layout, b_layout, d_layout;
  std::byte* workspace;
};

void Compute(const Product& p) {
  const uint64_t k = p.a_layout.rows, n = p.a_layout.columns, m = p.b_layout.columns;
  const float scale = (p.operation.scale_a == nullptr ? 1 : *p.operation.scale_a) *
                      (p.operation.scale_b == nullptr ? 1 : *p.operation.scale_b) * p.alpha;
  std::memset(p.workspace, 0xDB, kWorkspaceBytes);
  std::vector<float> rows(m * k), column(k);
  for (uint64_t j = 0; j < m; ++j) ColumnToFloat(p.b_layout, p.b, j, &rows[j * k]);
  for (uint64_t i = 0; i < n; ++i) {
    ColumnToFloat(p.a_layout, p.a, i, column.data());
    for (uint64_t j = 0; j < m; ++j) {
      const uint64_t at = j * static_cast<uint64_t>(p.d_layout.stride) + i;
      const float old = p.beta == 0 ? 0 : p.beta * p.c[at];
      p.d[at] = scale * Dot(column.data(), &rows[j * k], k) + old;
    }
  }
  for (uint64_t j = 0; j < m; ++j) {
    MemoryWritten(p.d + j * static_cast<uint64_t>(p.d_layout.stride), n * sizeof(float));
  }
}

BlasStatus Multiply(void* handle, void* operation, const void* alpha, const void* a, void* a_layout,
                    const void* b, void* b_layout, const void* beta, const void* c, void* c_layout,
                    void* d, void* d_layout, const BlasAlgorithm* algorithm, void* workspace,
                    size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr || alpha == nullptr || beta == nullptr || algorithm == nullptr) {
    return cuda::kBlasInvalidValue;
  }
  const auto p =
      std::make_shared<Product>(Product{.operation = *static_cast<Operation*>(operation),
                                        .alpha = *static_cast<const float*>(alpha),
                                        .beta = *static_cast<const float*>(beta),
                                        .a = static_cast<const std::byte*>(a),
                                        .b = static_cast<const std::byte*>(b),
                                        .c = static_cast<const float*>(c),
                                        .d = static_cast<float*>(d),
                                        .a_layout = *static_cast<Layout*>(a_layout),
                                        .b_layout = *static_cast<Layout*>(b_layout),
                                        .d_layout = *static_cast<Layout*>(d_layout),
                                        .workspace = static_cast<std::byte*>(workspace)});
  const BlasStatus status = CheckShapes(p->operation, p->a_layout, p->b_layout,
                                        *static_cast<Layout*>(c_layout), p->d_layout);
  if (status != cuda::kBlasSuccess) return status;
  const BlasAlgorithm expected = AlgorithmFor(p->a_layout, p->b_layout, p->d_layout);
  const auto on_device = [&](const void* begin, size_t bytes) {
    return IsOnDevice(begin, bytes, stream) && reinterpret_cast<uintptr_t>(begin) % 16 == 0;
  };
  const auto is_scale = [&](const float* scale) {
    return scale == nullptr || IsOnDevice(scale, sizeof(float), stream);
  };
  if (std::memcmp(algorithm, &expected, sizeof(expected)) != 0 ||
      workspace_bytes < kWorkspaceBytes || !on_device(workspace, kWorkspaceBytes) ||
      !on_device(a, p->a_layout.bytes()) || !on_device(b, p->b_layout.bytes()) ||
      !on_device(c, p->d_layout.bytes()) || !on_device(d, p->d_layout.bytes()) ||
      !is_scale(p->operation.scale_a) || !is_scale(p->operation.scale_b)) {
    return cuda::kBlasInvalidValue;
  }
  constexpr BlasStatus kExecutionFailed = 13;
  return EnqueueWork("cublasLtMatmul", stream, [p] { Compute(*p); }) == cudaSuccess
             ? cuda::kBlasSuccess
             : kExecutionFailed;
}

constexpr cuda::BlasFunctions kFunctions = {.version = Version,
                                            .create = Create,
                                            .destroy = Unmake<Handle>,
                                            .create_operation = CreateOperation,
                                            .destroy_operation = Unmake<Operation>,
                                            .set_operation = SetOperation,
                                            .create_layout = CreateLayout,
                                            .destroy_layout = Unmake<Layout>,
                                            .create_preference = CreatePreference,
                                            .destroy_preference = Unmake<Preference>,
                                            .set_preference = SetPreference,
                                            .heuristics = Heuristics,
                                            .multiply = Multiply};

}  // namespace

void* FindBlasFunction(const char* name) {
  const struct {
    std::string_view name;
    void* function;
  } functions[] = {
      {"cublasLtGetVersion", reinterpret_cast<void*>(kFunctions.version)},
      {"cublasLtCreate", reinterpret_cast<void*>(kFunctions.create)},
      {"cublasLtDestroy", reinterpret_cast<void*>(kFunctions.destroy)},
      {"cublasLtMatmulDescCreate", reinterpret_cast<void*>(kFunctions.create_operation)},
      {"cublasLtMatmulDescDestroy", reinterpret_cast<void*>(kFunctions.destroy_operation)},
      {"cublasLtMatmulDescSetAttribute", reinterpret_cast<void*>(kFunctions.set_operation)},
      {"cublasLtMatrixLayoutCreate", reinterpret_cast<void*>(kFunctions.create_layout)},
      {"cublasLtMatrixLayoutDestroy", reinterpret_cast<void*>(kFunctions.destroy_layout)},
      {"cublasLtMatmulPreferenceCreate", reinterpret_cast<void*>(kFunctions.create_preference)},
      {"cublasLtMatmulPreferenceDestroy", reinterpret_cast<void*>(kFunctions.destroy_preference)},
      {"cublasLtMatmulPreferenceSetAttribute", reinterpret_cast<void*>(kFunctions.set_preference)},
      {"cublasLtMatmulAlgoGetHeuristic", reinterpret_cast<void*>(kFunctions.heuristics)},
      {"cublasLtMatmul", reinterpret_cast<void*>(kFunctions.multiply)},
  };
  for (const auto& entry : functions) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

}  // namespace sluice::simt
