#include "tests/kernels/weight_bytes.h"

#include <cstring>
#include <random>
#include <span>

#include "tests/kernels/reference.h"

namespace sluice {
namespace {

// Where a block keeps its f16 numbers; -1: it has none.
struct Places {
  int d = 0, m = -1;
};
Places PlacesOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4K:
    case DType::kQ5K:
      return {0, 2};
    case DType::kQ2K:
      return {80, 82};
    case DType::kQ3K:
      return {108, -1};
    case DType::kQ6K:
      return {208, -1};
    default:
      return {};
  }
}

}  // namespace

BlockScales GetBlockScales(DType dtype, const uint8_t* block) {
  const Places places = PlacesOf(dtype);
  const auto half_at = [&](int at) {
    uint16_t half = 0;
    std::memcpy(&half, block + at, 2);
    return reference::HalfToFloat(half);
  };
  return {half_at(places.d), places.m < 0 ? 0 : half_at(places.m)};
}

void SetBlockScales(DType dtype, uint8_t* block, float d, float m) {
  if (dtype == DType::kF32) {
    std::memcpy(block, &d, 4);
    return;
  }
  if (dtype == DType::kBF16) {
    std::memcpy(block, reinterpret_cast<const char*>(&d) + 2, 2);
    return;
  }
  const Places places = PlacesOf(dtype);
  const uint16_t half = reference::FloatToHalf(d);
  std::memcpy(block + places.d, &half, 2);
  if (places.m < 0) return;
  const uint16_t minimum = reference::FloatToHalf(m);
  std::memcpy(block + places.m, &minimum, 2);
}

std::vector<uint8_t> RandomWeightBytes(DType dtype, int64_t rows, int64_t cols, uint32_t seed) {
  const DTypeInfo info = GetDTypeInfo(dtype);
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(
      static_cast<size_t>(rows * cols / info.block_elements * info.block_bytes));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  std::uniform_real_distribution<float> value(-0.05F, 0.05F);
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(info.block_bytes)) {
    const float d = value(random);
    SetBlockScales(dtype, &bytes[at], d, value(random));
  }
  return bytes;
}

RandomWeights::RandomWeights(DType dtype, int64_t rows, int64_t cols, uint32_t seed)
    : bytes(RandomWeightBytes(dtype, rows, cols, seed)), view{dtype, rows, cols, bytes.data()} {}

void RandomWeights::SpreadScales(uint32_t seed) {
  std::mt19937 random(seed);
  const auto any = [&] {
    return reference::HalfToFloat(static_cast<uint16_t>(random() % 0x7c00 | (random() & 0x8000)));
  };
  for (size_t at = 0; at < bytes.size(); at += block_bytes()) {
    const float d = any();
    SetBlockScales(view.dtype, &bytes[at], d, any());
  }
}

std::vector<double> RandomWeights::Magnitude(const Tensor& x) const {
  if (GetDTypeInfo(view.dtype).block_elements == 1)
    return reference::MatMulMagnitude(x, std::span(&view, 1));
  std::vector<double> sum;
  for (const bool minima : {false, true}) {
    std::vector<uint8_t> part = bytes;
    for (size_t at = 0; at < part.size(); at += block_bytes()) {
      const BlockScales s = GetBlockScales(view.dtype, &part[at]);
      SetBlockScales(view.dtype, &part[at], minima ? 0 : s.d, minima ? s.m : 0);
    }
    const WeightView one{view.dtype, view.rows, view.cols, part.data()};
    const std::vector<double> magnitude = reference::MatMulMagnitude(x, std::span(&one, 1));
    sum.resize(magnitude.size());
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += magnitude[i];
  }
  return sum;
}

}  // namespace sluice
