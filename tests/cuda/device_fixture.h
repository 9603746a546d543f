// For tests that call kernels' host functions on the emulated device.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/kernels.h"
#include "kernels/simt/runtime.h"

namespace sluice::cuda {

// Every kernel test runs under some orders of blocks, warps and lanes.
class KernelTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override {
    simt::SetDevices({simt::DeviceModel{}});
    simt::SetSeed(GetParam());
  }
  // What ran is done; nobody found fault with it.
  void TearDown() override { Finish(); }
  static void Finish() {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << simt::LastRefusal();
    for (const simt::Finding& finding : simt::TakeFindings()) ADD_FAILURE() << finding.ToString();
  }
};

// Device memory that holds `values`, or nothing that was written.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    void* p = nullptr;
    EXPECT_EQ(cudaMalloc(&p, size * sizeof(T)), cudaSuccess);
    data_.reset(static_cast<T*>(p));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(data(), values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  [[nodiscard]] T* data() const { return data_.get(); }
  [[nodiscard]] std::vector<T> Read() const {
    std::vector<T> values(size_);
    EXPECT_EQ(cudaMemcpy(values.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess)
        << simt::LastRefusal();
    return values;
  }

 private:
  struct Free {
    void operator()(T* p) const { (void)cudaFree(p); }
  };
  size_t size_;
  std::unique_ptr<T, Free> data_;
};

// Rows whose stride is larger than they are long; what lies between stays as it was.
class DeviceTensor {
 public:
  static constexpr float kBetween = -77;
  DeviceTensor(int32_t rows, int32_t cols)
      : DeviceTensor(rows, cols, [](int, int) { return kBetween; }) {}
  template <class F>
  DeviceTensor(int32_t rows, int32_t cols, const F& value)
      : rows_(rows), cols_(cols), array_(Values(rows, cols, value)) {}
  [[nodiscard]] Tensor tensor() const { return {array_.data(), rows_, cols_, cols_ + kGap}; }
  // [rows * cols]
  [[nodiscard]] std::vector<float> Read() const {
    const std::vector<float> all = array_.Read();
    std::vector<float> values;
    for (int32_t r = 0; r < rows_; ++r) {
      for (int32_t c = 0; c < cols_ + kGap; ++c) {
        const float value = all[static_cast<size_t>(r) * (cols_ + kGap) + c];
        if (c < cols_) {
          values.push_back(value);
        } else {
          EXPECT_EQ(value, kBetween) << "written behind row " << r;
        }
      }
    }
    return values;
  }

 private:
  static constexpr int32_t kGap = 4;
  template <class F>
  static std::vector<float> Values(int32_t rows, int32_t cols, const F& value) {
    std::vector<float> values;
    for (int32_t r = 0; r < rows; ++r) {
      for (int32_t c = 0; c < cols + kGap; ++c) values.push_back(c < cols ? value(r, c) : kBetween);
    }
    return values;
  }
  int32_t rows_, cols_;
  DeviceArray<float> array_;
};

// Halves on the device, and what they stand for.
class DeviceHalves {
 public:
  DeviceHalves(int32_t rows, int32_t k)
      : k_(k),
        columns_(HalvesColumns(k)),
        data_(static_cast<size_t>(rows) * columns_),
        scale_(static_cast<size_t>(rows)) {}
  template <class F>
  DeviceHalves(int32_t rows, int32_t k, const F& value)
      : k_(k),
        columns_(HalvesColumns(k)),
        data_(Stored(rows, k, value)),
        scale_(std::vector<float>(rows, 0.5F)) {}
  [[nodiscard]] Halves halves() const { return {data_.data(), scale_.data(), columns_}; }
  // [rows * k]; the columns past k must be zero.
  [[nodiscard]] std::vector<float> Read() const {
    const std::vector<uint16_t> stored = data_.Read();
    const std::vector<float> scale = scale_.Read();
    std::vector<float> values;
    for (size_t r = 0; r < scale.size(); ++r) {
      for (int32_t c = 0; c < columns_; ++c) {
        const auto half = __builtin_bit_cast(_Float16, stored[r * columns_ + Place(c)]);
        if (c < k_) {
          values.push_back(static_cast<float>(half) * scale[r]);
        } else {
          EXPECT_EQ(static_cast<float>(half), 0) << "row " << r << " past its end";
        }
      }
    }
    return values;
  }

 private:
  // As kernels.h says it: element 8j + 2t + e of 32 is at 8t + 2j + e.
  static size_t Place(int32_t c) {
    const int32_t j = c % 32 / 8, t = c % 8 / 2, e = c % 2;
    return static_cast<size_t>(c / 32) * 32 + 8 * t + 2 * j + e;
  }
  template <class F>
  static std::vector<uint16_t> Stored(int32_t rows, int32_t k, const F& value) {
    const int32_t columns = HalvesColumns(k);
    std::vector<uint16_t> stored(static_cast<size_t>(rows) * columns);
    for (int32_t r = 0; r < rows; ++r) {
      for (int32_t c = 0; c < k; ++c) {
        stored[static_cast<size_t>(r) * columns + Place(c)] =
            __builtin_bit_cast(uint16_t, static_cast<_Float16>(2 * value(r, c)));
      }
    }
    return stored;
  }
  int32_t k_, columns_;
  DeviceArray<uint16_t> data_;
  DeviceArray<float> scale_;
};

}  // namespace sluice::cuda
