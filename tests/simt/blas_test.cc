// Products by cuBLASLt's functions: the host code on the emulated library, and the declarations
// against the real header.
#include "kernels/cuda/blas.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/half.h"
#include "kernels/simt/blas.h"
#include "kernels/simt/runtime.h"
#include "tests/simt/runtime_fixture.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif

namespace sluice::cuda {
namespace {

using simt::LastRefusal;
using testing::HasSubstr;

class BlasTest : public simt::RuntimeTest {
 protected:
  static std::unique_ptr<Blas> Open() {
    auto blas = Blas::Open(simt::FindBlasFunction);
    EXPECT_TRUE(blas.ok()) << blas.status();
    return blas.ok() ? *std::move(blas) : nullptr;
  }
  template <class T>
  static T* Upload(const std::vector<T>& host) {
    T* const p = OnDevice<T>(host.size());
    EXPECT_WORKS(cudaMemcpy(p, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
  }
};

// Of a small integer, which all types hold exactly.
uint32_t Encode(BlasType type, int value) {
  if (type == BlasType::kF16) return FloatToHalf(static_cast<float>(value));
  const auto x = static_cast<float>(value);
  if (type == BlasType::kBf16) return std::bit_cast<uint32_t>(x) >> 16;
  if (value == 0) return 0;
  const auto magnitude = static_cast<uint32_t>(value < 0 ? -value : value);
  const auto exponent = static_cast<uint32_t>(std::bit_width(magnitude) - 1);
  const uint32_t mantissa = (magnitude << 3 >> exponent) - 8;
  return (value < 0 ? 0x80U : 0U) | (exponent + 7) << 3 | mantissa;
}

struct Matrix {
  std::vector<int> values;  // [rows, stride]
  std::vector<uint8_t> bytes;
};

Matrix RandomMatrix(BlasType type, int64_t rows, int64_t stride, std::mt19937& random) {
  Matrix matrix;
  std::uniform_int_distribution<int> values(-5, 5);
  const size_t width = type == BlasType::kE4m3 ? 1 : 2;
  for (int64_t i = 0; i < rows * stride; ++i) {
    matrix.values.push_back(values(random));
    const uint32_t bits = Encode(type, matrix.values.back());
    for (size_t byte = 0; byte < width; ++byte) {
      matrix.bytes.push_back(static_cast<uint8_t>(bits >> (8 * byte)));
    }
  }
  return matrix;
}

TEST_F(BlasTest, ProductsOfIntegersAreExactForEveryTypeAndStride) {
  const struct {
    int64_t m, n, k, extra;  // extra elements a row
    float alpha, beta, scale;
  } cases[] = {
      {1, 16, 16, 0, 1, 0, 1},
      {5, 32, 64, 16, 2, 1, 1},
      {33, 48, 160, 32, -0.5F, -2, 0.25F},
  };
  std::mt19937 random(1);
  for (const BlasType type : {BlasType::kF16, BlasType::kBf16, BlasType::kE4m3}) {
    for (const auto& c : cases) {
      Reset(0);
      const auto blas = Open();
      const int64_t stride = c.k + c.extra, d_stride = c.n + c.extra;
      const Matrix a = RandomMatrix(type, c.m, stride, random),
                   w = RandomMatrix(type, c.n, stride, random);
      std::vector<float> d(c.m * d_stride);
      for (float& x : d) x = static_cast<float>(random() % 7);
      const bool scaled = type == BlasType::kE4m3;
      const BlasProduct product{.type = type,
                                .m = c.m,
                                .n = c.n,
                                .k = c.k,
                                .a = Upload(a.bytes),
                                .a_stride = stride,
                                .w = Upload(w.bytes),
                                .w_stride = stride,
                                .scale_a = scaled ? Upload(std::vector<float>{c.scale}) : nullptr,
                                .scale_w = scaled ? Upload(std::vector<float>{2}) : nullptr,
                                .alpha = c.alpha,
                                .beta = c.beta,
                                .d = Upload(d),
                                .d_stride = d_stride};
      const cudaStream_t stream = NonBlocking();
      EXPECT_WORKS(cudaDeviceSynchronize());
      ASSERT_TRUE(blas->Enqueue(product, stream).ok());
      std::vector<float> got(d.size());
      EXPECT_WORKS(cudaMemcpyAsync(got.data(), product.d, got.size() * sizeof(float),
                                   cudaMemcpyDeviceToHost, stream));
      EXPECT_WORKS(cudaStreamSynchronize(stream));
      for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < d_stride; ++j) {
          int sum = 0;
          for (int64_t k = 0; k < c.k && j < c.n; ++k) {
            sum += a.values[i * stride + k] * w.values[j * stride + k];
          }
          const float old = d[i * d_stride + j];
          const float scale = scaled ? 2 * c.scale : 1;
          const float want =
              j < c.n ? c.alpha * scale * static_cast<float>(sum) + c.beta * old : old;
          ASSERT_EQ(got[i * d_stride + j], want) << i << ", " << j;
        }
      }
    }
  }
}

class BlasShapes : public BlasTest {
 protected:
  void SetUp() override {
    BlasTest::SetUp();
    Use(DeviceModel());
  }
  static simt::DeviceModel DeviceModel() { return {}; }
  void Use(simt::DeviceModel model) {
    blas_.reset();
    Reset(0, {std::move(model)});
    blas_ = Open();
    product_ = {.m = 4,
                .n = 32,
                .k = 32,
                .a = OnDevice<uint16_t>(4 * 32),
                .a_stride = 32,
                .w = OnDevice<uint16_t>(32 * 32),
                .w_stride = 32,
                .d = OnDevice<float>(4 * 32),
                .d_stride = 32};
  }
  void TearDown() override {
    blas_.reset();
    BlasTest::TearDown();
  }
  std::unique_ptr<Blas> blas_;
  BlasProduct product_;
};

TEST_F(BlasShapes, WhatTheFastKernelsDoNotTakeIsRefused) {
  const auto with = [this](auto change) {
    BlasProduct p = product_;
    change(p);
    return p;
  };
  const BlasProduct cases[] = {
      with([](BlasProduct& p) { p.m = 0; }),
      with([](BlasProduct& p) { p.k = 31; }),
      with([](BlasProduct& p) { p.k = 40, p.w_stride = 40; }),
      with([](BlasProduct& p) { p.a_stride = 33; }),
      with([](BlasProduct& p) { p.n = 28; }),
      with([](BlasProduct& p) { p.d_stride = 34; }),
      with([](BlasProduct& p) { p.a = static_cast<const char*>(p.a) + 8; }),
      with([](BlasProduct& p) { p.type = BlasType::kE4m3, p.n = 24; }),
  };
  for (const BlasProduct& p : cases) {
    EXPECT_FALSE(Blas::Supports(p));
    EXPECT_EQ(blas_->Enqueue(p, nullptr).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(Blas::Supports(product_));
  EXPECT_TRUE(blas_->Enqueue(product_, nullptr).ok());
}

TEST_F(BlasShapes, Fp8NeedsAdaAndSaysSo) {
  for (const auto& [minor, code] :
       {std::pair{6, absl::StatusCode::kUnimplemented}, std::pair{9, absl::StatusCode::kOk}}) {
    Use({.major = 8, .minor = minor});
    product_.type = BlasType::kE4m3;
    EXPECT_EQ(blas_->Prepare(product_).code(), code);
    EXPECT_EQ(blas_->Enqueue(product_, nullptr).code(), code);
  }
}

TEST_F(BlasShapes, AShapeIsPreparedOnceAndReplayedFromAGraph) {
  ASSERT_TRUE(blas_->Prepare(product_).ok());
  (void)simt::TakeStatistics();
  const cudaStream_t stream = NonBlocking();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t program = nullptr;
  EXPECT_WORKS(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  ASSERT_TRUE(blas_->Enqueue(product_, stream).ok());
  EXPECT_WORKS(cudaStreamEndCapture(stream, &graph));
  EXPECT_WORKS(cudaGraphInstantiate(&program, graph, 0));
  for (int i = 0; i < 3; ++i) EXPECT_WORKS(cudaGraphLaunch(program, stream));
  EXPECT_WORKS(cudaStreamSynchronize(stream));
  const simt::Statistics statistics = simt::TakeStatistics();
  EXPECT_EQ(statistics.kernels.at("cublasLtMatmul").launches, 3U);
  EXPECT_FALSE(statistics.calls.contains("cudaMalloc"));
}

TEST_F(BlasShapes, MemoryThatIsNotTheDevicesIsRefused) {
  alignas(16) static float host[128];
  BlasProduct p = product_;
  p.d = host;
  EXPECT_THAT(blas_->Enqueue(p, nullptr).message(), HasSubstr("status 7 for 4 x 32 x 32"));
  p = product_;
  p.m = 5;  // beyond a and d
  EXPECT_FALSE(blas_->Enqueue(p, nullptr).ok());
}

TEST_F(BlasShapes, ManyShapesDoNotPileUp) {
  product_.k = 16;
  for (int64_t i = 0; i < 5000; ++i) {
    product_.w_stride = 32 + 8 * i;
    ASSERT_TRUE(blas_->Prepare(product_).ok());
  }
}

TEST_F(BlasTest, WithoutTheLibraryOrADeviceItSaysWhy) {
  const auto without = [](const std::string& missing) {
    return Blas::Open([missing](const char* name) {
             return missing == name ? nullptr : simt::FindBlasFunction(name);
           })
        .status();
  };
  EXPECT_EQ(without("cublasLtMatmul").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(without("cublasLtCreate").message(), HasSubstr("no function cublasLtCreate"));
  Reset(0, {{.memory_bytes = 1 << 20}});
  EXPECT_EQ(without("").code(), absl::StatusCode::kResourceExhausted);
  Reset(0, {});
  EXPECT_EQ(without("").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(OpenLibrary("libsluice-absent.so").status().code(), absl::StatusCode::kNotFound);
}

#if __has_include(<cublasLt.h>)
TEST(BlasFunctionsTest, AreThoseOfTheHeader) {
  EXPECT_EQ(kBlasSuccess, CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(kBlasNotInitialized, CUBLAS_STATUS_NOT_INITIALIZED);
  EXPECT_EQ(kBlasInvalidValue, CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(kBlasArchMismatch, CUBLAS_STATUS_ARCH_MISMATCH);
  EXPECT_EQ(kBlasNotSupported, CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(kBlasComputeF32, CUBLAS_COMPUTE_32F);
  EXPECT_EQ(kBlasPlain, CUBLAS_OP_N);
  EXPECT_EQ(kBlasTransposed, CUBLAS_OP_T);
  EXPECT_EQ(kBlasTransposeA, CUBLASLT_MATMUL_DESC_TRANSA);
  EXPECT_EQ(kBlasTransposeB, CUBLASLT_MATMUL_DESC_TRANSB);
  EXPECT_EQ(kBlasScaleA, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
  EXPECT_EQ(kBlasScaleB, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
  EXPECT_EQ(kBlasMaxWorkspace, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
  EXPECT_EQ(kBlasAlignmentA, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
  EXPECT_EQ(kBlasAlignmentB, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
  EXPECT_EQ(kBlasAlignmentC, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
  EXPECT_EQ(kBlasAlignmentD, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
  EXPECT_EQ(sizeof(BlasAlgorithm), sizeof(cublasLtMatmulAlgo_t));
  EXPECT_EQ(sizeof(BlasHeuristic), sizeof(cublasLtMatmulHeuristicResult_t));
  EXPECT_EQ(offsetof(BlasHeuristic, workspace_bytes),
            offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
  EXPECT_EQ(offsetof(BlasHeuristic, state), offsetof(cublasLtMatmulHeuristicResult_t, state));
  EXPECT_EQ(offsetof(BlasHeuristic, waves), offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));
}

// The same number of arguments, each of the same size and kind. Calls it never: declarations only.
template <class A>
using Argument = std::conditional_t<std::is_pointer_v<A>, void*, A>;
template <class A, class B>
inline constexpr bool kSameArgument =
    sizeof(Argument<A>) == sizeof(Argument<B>) && std::is_pointer_v<A> == std::is_pointer_v<B> &&
    std::is_floating_point_v<A> == std::is_floating_point_v<B>;
template <class R, class... A, class S, class... B>
constexpr bool HaveTheSameShape(R (*)(A...), S (*)(B...)) {
  if constexpr (sizeof...(A) == sizeof...(B)) {
    return (kSameArgument<A, B> && ...) && sizeof(R) == sizeof(S);
  }
  return false;
}
#define SAME(member, real) \
  static_assert(HaveTheSameShape(decltype(BlasFunctions::member){}, decltype(&(real)){}))
SAME(version, cublasLtGetVersion);
SAME(create, cublasLtCreate);
SAME(destroy, cublasLtDestroy);
SAME(create_operation, cublasLtMatmulDescCreate);
SAME(destroy_operation, cublasLtMatmulDescDestroy);
SAME(set_operation, cublasLtMatmulDescSetAttribute);
SAME(create_layout, cublasLtMatrixLayoutCreate);
SAME(destroy_layout, cublasLtMatrixLayoutDestroy);
SAME(create_preference, cublasLtMatmulPreferenceCreate);
SAME(destroy_preference, cublasLtMatmulPreferenceDestroy);
SAME(set_preference, cublasLtMatmulPreferenceSetAttribute);
SAME(heuristics, cublasLtMatmulAlgoGetHeuristic);
SAME(multiply, cublasLtMatmul);
#undef SAME
#else
TEST(BlasFunctionsTest, AreThoseOfTheHeader) { GTEST_SKIP() << "cublasLt.h is not there"; }
#endif

}  // namespace
}  // namespace sluice::cuda
