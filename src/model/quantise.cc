#include "model/quantise.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "base/check.h"
#include "kernels/half.h"

namespace sluice {
namespace {

constexpr int64_t kBlock = 32;
constexpr float kMaxHalf = 65504;
// Rows that a thread takes at once.
constexpr int64_t kRowsAtOnce = 16;

void PutHalf(float x, uint8_t* out) {
  const uint16_t half = FloatToHalf(x);
  std::memcpy(out, &half, sizeof(half));
}

// 1 / d, or 0 where the block's numbers are too small for a scale.
float Inverse(float d) {
  const float inverse = 1 / d;
  return std::isfinite(inverse) ? inverse : 0;
}

// Element i is the low nibble of byte i, element i + 16 the high one.
template <typename Code>
void PutNibbles(Code code, uint8_t* out) {
  for (int64_t i = 0; i < kBlock / 2; ++i) {
    const auto low = static_cast<uint32_t>(std::clamp(code(i), 0, 15));
    const auto high = static_cast<uint32_t>(std::clamp(code(i + kBlock / 2), 0, 15));
    out[i] = static_cast<uint8_t>(low | high << 4);
  }
}

// Each returns false for a block that the type cannot hold.
bool RoundQ80(const float* x, uint8_t* out) {
  float max = 0;
  for (int64_t i = 0; i < kBlock; ++i) max = std::max(max, std::abs(x[i]));
  const float d = max / 127;
  if (d > kMaxHalf) return false;
  const float inverse = Inverse(d);
  PutHalf(d, out);
  for (int64_t i = 0; i < kBlock; ++i) {
    out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::round(x[i] * inverse)));
  }
  return true;
}

bool RoundQ40(const float* x, uint8_t* out) {
  float extreme = 0;
  for (int64_t i = 0; i < kBlock; ++i) {
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  }
  const float d = extreme / -8;
  if (std::abs(d) > kMaxHalf) return false;
  const float inverse = Inverse(d);
  PutHalf(d, out);
  PutNibbles([&](int64_t i) { return static_cast<int>(x[i] * inverse + 8.5F); }, out + 2);
  return true;
}

bool RoundQ41(const float* x, uint8_t* out) {
  const auto [min, max] = std::minmax_element(x, x + kBlock);
  const float d = (*max - *min) / 15;
  if (!(d <= kMaxHalf && std::abs(*min) <= kMaxHalf)) return false;
  const float inverse = Inverse(d);
  const float low = *min;
  PutHalf(d, out);
  PutHalf(low, out + 2);
  // NOLINTNEXTLINE(bugprone-incorrect-roundings): as the gguf package rounds, to the bit.
  PutNibbles([&](int64_t i) { return static_cast<int>((x[i] - low) * inverse + 0.5F); }, out + 4);
  return true;
}

using Round = bool (*)(const float* x, uint8_t* out);
Round RoundTo(DType to) {
  switch (to) {
    case DType::kQ8_0:
      return RoundQ80;
    case DType::kQ4_0:
      return RoundQ40;
    case DType::kQ4_1:
      return RoundQ41;
    default:
      return nullptr;
  }
}

// One block as floats; false if a number is not finite.
bool ReadBlock(DType from, const uint8_t* in, float* x) {
  bool finite = true;
  for (int64_t i = 0; i < kBlock; ++i) {
    if (from == DType::kF32) {
      std::memcpy(x + i, in + 4 * i, 4);
    } else {
      uint16_t half = 0;
      std::memcpy(&half, in + 2 * i, 2);
      x[i] = from == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
    }
    finite = finite && std::isfinite(x[i]);
  }
  return finite;
}

bool RoundRow(const WeightView& w, Round round, int64_t block_bytes, int64_t row, uint8_t* out) {
  const int64_t in_bytes = kBlock * GetDTypeInfo(w.dtype).block_bytes;
  const uint8_t* in = static_cast<const uint8_t*>(w.data) + row * w.row_bytes();
  float x[kBlock];
  for (int64_t b = 0; b < w.cols / kBlock; ++b) {
    if (!ReadBlock(w.dtype, in + b * in_bytes, x) || !round(x, out + b * block_bytes)) return false;
  }
  return true;
}

}  // namespace

std::optional<DType> ParseQuantisedType(std::string_view name) {
  if (name == "q8_0") return DType::kQ8_0;
  if (name == "q4_0") return DType::kQ4_0;
  if (name == "q4_1") return DType::kQ4_1;
  return std::nullopt;
}

absl::Status QuantiseRows(const WeightView& w, DType to, int threads, uint8_t* out) {
  const Round round = RoundTo(to);
  SLUICE_CHECK(
      round != nullptr && w.cols % kBlock == 0 && GetDTypeInfo(w.dtype).block_elements == 1,
      "{} of {} columns to {}", GetDTypeInfo(w.dtype).name, w.cols, GetDTypeInfo(to).name);
  const int64_t block_bytes = GetDTypeInfo(to).block_bytes;
  const int64_t row_bytes = w.cols / kBlock * block_bytes;
  std::atomic<int64_t> next = 0, first_bad = w.rows;
  const auto work = [&] {
    for (int64_t begin = 0; (begin = next.fetch_add(kRowsAtOnce)) < w.rows;) {
      for (int64_t row = begin; row < std::min(begin + kRowsAtOnce, w.rows); ++row) {
        if (RoundRow(w, round, block_bytes, row, out + row * row_bytes)) continue;
        int64_t known = first_bad;
        while (row < known && !first_bad.compare_exchange_weak(known, row)) {
        }
      }
    }
  };
  const int64_t hand_outs = (w.rows + kRowsAtOnce - 1) / kRowsAtOnce;
  std::vector<std::thread> others(
      static_cast<size_t>(std::clamp<int64_t>(threads, 1, std::max<int64_t>(hand_outs, 1)) - 1));
  for (std::thread& other : others) other = std::thread(work);
  work();
  for (std::thread& other : others) other.join();
  if (first_bad == w.rows) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("row {} holds a number that is not finite or too large for {}", first_bad.load(),
                  GetDTypeInfo(to).name));
}

}  // namespace sluice
