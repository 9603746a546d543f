// From a format or type that is known when a step runs to one that a kernel is compiled for.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/kernels.h"

namespace sluice::cuda {

// Calls f.template operator()<format>() for the format that there is.
template <class F>
cudaError_t WithFormat(WeightFormat format, const F& f) {
  switch (format) {
    case WeightFormat::kHalf:
      return f.template operator()<WeightFormat::kHalf>();
    case WeightFormat::kInt8:
      return f.template operator()<WeightFormat::kInt8>();
    case WeightFormat::kInt4:
      return f.template operator()<WeightFormat::kInt4>();
    case WeightFormat::kInt4Min:
      return f.template operator()<WeightFormat::kInt4Min>();
    case WeightFormat::kInt5:
      return f.template operator()<WeightFormat::kInt5>();
    case WeightFormat::kInt5Min:
      return f.template operator()<WeightFormat::kInt5Min>();
    case WeightFormat::kInt6:
      return f.template operator()<WeightFormat::kInt6>();
    case WeightFormat::kInt3:
      return f.template operator()<WeightFormat::kInt3>();
    case WeightFormat::kInt2Min:
      return f.template operator()<WeightFormat::kInt2Min>();
    case WeightFormat::kTable4:
      return f.template operator()<WeightFormat::kTable4>();
    case WeightFormat::kInt4Nested:
      return f.template operator()<WeightFormat::kInt4Nested>();
    case WeightFormat::kInt5Nested:
      return f.template operator()<WeightFormat::kInt5Nested>();
    case WeightFormat::kFp8:
      return f.template operator()<WeightFormat::kFp8>();
  }
  return cudaErrorInvalidValue;
}

// The same with the type of a KV cache.
template <class F>
cudaError_t WithKvType(KvType type, const F& f) {
  switch (type) {
    case KvType::kF16:
      return f.template operator()<KvType::kF16>();
    case KvType::kBf16:
      return f.template operator()<KvType::kBf16>();
    case KvType::kFp8:
      return f.template operator()<KvType::kFp8>();
    case KvType::kInt8:
      return f.template operator()<KvType::kInt8>();
  }
  return cudaErrorInvalidValue;
}

}  // namespace sluice::cuda
