// What tests of products share: whole numbers, whose sums are exact, and a matrix on the device.
#pragma once

#include <cstdint>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/packed_weights.h"
#include "tests/cuda/device_fixture.h"

namespace sluice::cuda {

inline int Weight(int n, int k) { return (n * 7 + k * 3 + n * k) % 15 - 7; }
inline float X(int r, int k) { return static_cast<float>((r * 11 + k * 5) % 13 - 6); }
inline float Rest(int r, int n) { return static_cast<float>(r * 100 + n); }

class DeviceMatrix {
 public:
  explicit DeviceMatrix(const PackedWeights& packed)
      : tiles_(packed.tiles), row_scale_(packed.row_scale) {
    args_.format = packed.format;
    args_.weights = tiles_.data();
    args_.row_scale = row_scale_.data();
    args_.rows = packed.rows;
    args_.columns = packed.columns;
  }
  [[nodiscard]] const LinearArgs& args() const { return args_; }
  // The product with x [rows], written to rows of `out_stride`.
  [[nodiscard]] LinearArgs Product(const DeviceHalves& x, int rows, float* out, int out_stride,
                                   const DeviceTensor* residual = nullptr) const {
    LinearArgs args = args_;
    args.x = x.halves();
    args.num_x_rows = rows;
    args.out = out;
    args.out_stride = out_stride;
    if (residual != nullptr) {
      args.residual = residual->tensor().data;
      args.residual_stride = residual->tensor().stride;
    }
    return args;
  }

 private:
  DeviceArray<uint8_t> tiles_;
  DeviceArray<float> row_scale_;
  LinearArgs args_{};
};

}  // namespace sluice::cuda
