// The functions of cuBLASLt 13 that blas.cc calls, declared by us: the header comes with a package
// of 500 MB. tests/simt/blas_test.cc compares these with it where it is to be had.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>

namespace sluice::cuda {

// cublasStatus_t, cublasComputeType_t, cublasOperation_t and the enums of attributes are ints in C.
using BlasStatus = int;
inline constexpr BlasStatus kBlasSuccess = 0, kBlasNotInitialized = 1, kBlasInvalidValue = 7,
                            kBlasArchMismatch = 8, kBlasNotSupported = 15;
inline constexpr int kBlasComputeF32 = 68;
inline constexpr int32_t kBlasPlain = 0, kBlasTransposed = 1;
// Of an operation.
inline constexpr int kBlasTransposeA = 3, kBlasTransposeB = 4, kBlasScaleA = 17, kBlasScaleB = 18;
// Of a preference.
inline constexpr int kBlasMaxWorkspace = 1, kBlasAlignmentA = 5, kBlasAlignmentB = 6,
                     kBlasAlignmentC = 7, kBlasAlignmentD = 8;

struct BlasAlgorithm {
  uint64_t data[8];
};
struct BlasHeuristic {
  BlasAlgorithm algorithm;
  size_t workspace_bytes;
  BlasStatus state;
  float waves;
  int reserved[4];
};

// Handles, layouts, operations and preferences are opaque.
struct BlasFunctions {
  size_t (*version)();
  BlasStatus (*create)(void** handle);
  BlasStatus (*destroy)(void* handle);
  BlasStatus (*create_operation)(void** operation, int compute_type, cudaDataType_t scale_type);
  BlasStatus (*destroy_operation)(void* operation);
  BlasStatus (*set_operation)(void* operation, int attribute, const void* value, size_t bytes);
  BlasStatus (*create_layout)(void** layout, cudaDataType_t type, uint64_t rows, uint64_t columns,
                              int64_t column_stride);
  BlasStatus (*destroy_layout)(void* layout);
  BlasStatus (*create_preference)(void** preference);
  BlasStatus (*destroy_preference)(void* preference);
  BlasStatus (*set_preference)(void* preference, int attribute, const void* value, size_t bytes);
  BlasStatus (*heuristics)(void* handle, void* operation, void* a, void* b, void* c, void* d,
                           void* preference, int max_results, BlasHeuristic results[],
                           int* num_results);
  BlasStatus (*multiply)(void* handle, void* operation, const void* alpha, const void* a,
                         void* a_layout, const void* b, void* b_layout, const void* beta,
                         const void* c, void* c_layout, void* d, void* d_layout,
                         const BlasAlgorithm* algorithm, void* workspace, size_t workspace_bytes,
                         cudaStream_t stream);
};

}  // namespace sluice::cuda
