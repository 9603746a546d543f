#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/number.h"
#include "kernels/log.h"
#include "tests/cuda_proof/conformance.h"

namespace sluice::cuda {
namespace {

constexpr uint32_t kThreads = 64;
constexpr uint32_t kRounds = 16;                   // numbers a thread
constexpr uint32_t kNumbers = kThreads * kRounds;  // of a case that maps numbers

// Which NaN comes out is left open.
SLUICE_DEVICE uint32_t Result(float x) { return x != x ? 0x7fc00000U : BitsOf(x); }
SLUICE_DEVICE uint32_t HalfResult(uint32_t half) {
  return (half & 0x7fffU) > 0x7c00U ? 0x7e00U : half;
}
SLUICE_DEVICE uint32_t PairResult(uint32_t pair) {
  return HalfResult(pair & 0xffffU) | HalfResult(pair >> 16) << 16;
}

// out[i] = map(i) for each of the kNumbers.
template <class Map>
SLUICE_DEVICE void ForEach(uint32_t* out, Map map) {
  for (uint32_t i = ThreadIndex().x; i < kNumbers; i += kThreads) out[i] = map(i);
}

SLUICE_KERNEL(kThreads) Indices(const uint32_t* in, uint32_t* out) {
  const Index3 thread = ThreadIndex(), block = BlockIndex(), size = BlockSize(), grid = GridSize();
  uint32_t* const to = out + (block.x * size.x + ThreadAnew()) * 4;
  to[0] = in[0] + (thread.x | thread.y << 8 | thread.z << 16);
  to[1] = block.x | block.y << 8 | block.z << 16;
  to[2] = size.x | size.y << 8 | size.z << 16;
  to[3] = grid.x | grid.y << 8 | grid.z << 16;
}

SLUICE_KERNEL(kThreads) Shuffles(const uint32_t* in, uint32_t* out) {
  const uint32_t thread = ThreadIndex().x, lane = thread % 32, value = in[thread];
  uint32_t* const to = out + thread * 8;
  to[0] = Shuffle(value, in[kThreads + thread] % 32);
  to[1] = ShuffleXor(value, 5);
  to[2] = BitsOf(Shuffle(FloatOf(value & 0x7fffffU), 31 - lane));
  to[3] = Ballot((value & 1) != 0);
  if (lane < 12) {
    to[4] = Shuffle(value, (lane + 5) % 12, 0xfff);
    SyncWarp(0xfff);
    to[5] = Ballot((value & 2) != 0, 0xfff);
  } else {
    to[6] = ShuffleXor(value, 1, 0xfffff000U);
  }
  SyncWarp();
}

SLUICE_KERNEL(kThreads) Reductions(const uint32_t* in, uint32_t* out) {
  const uint32_t thread = ThreadIndex().x;
  const float value = FloatOf(in[thread]);
  uint32_t* const to = out + thread * 8;
  to[0] = Result(GroupSum<32>(value));
  to[1] = Result(GroupSum<4>(value));
  to[2] = Result(GroupMax<32>(value));
  to[3] = Result(GroupMax<8>(value));
  to[4] = Result(Larger(value, FloatOf(in[kThreads + thread])));
}

SLUICE_KERNEL(128) Barriers(const uint32_t* in, uint32_t* out) {
  SLUICE_SHARED(uint32_t, words, [128]);
  const uint32_t thread = ThreadIndex().x, half = thread / 64 * 64;
  words[thread] = in[thread];
  SyncBlock();
  uint32_t value = words[127 - thread];
  SyncBlock();
  words[thread] = value + 1;
  if (half == 0) {
    SyncSome<1, 64>();
  } else {
    SyncSome<2, 64>();
  }
  value = words[half + 63 - thread % 64];
  SyncBlock();
  words[thread] = value ^ thread;
  Fence();
  SyncWarp();
  out[thread] = words[thread ^ 3];
}

SLUICE_KERNEL(kThreads) Atomics(const uint32_t* in, uint32_t* out) {
  const uint32_t thread = ThreadIndex().x, block = BlockIndex().x;
  AtomicAdd(out + in[thread] % 8, thread + block);
  AtomicAdd(reinterpret_cast<uint64_t*>(out + 8) + in[thread] / 8 % 4, uint64_t{in[thread]} << 8);
  AtomicOr(out + 16 + in[thread] / 32 % 4, in[thread]);
  Fence();
}

SLUICE_KERNEL(kThreads) WideAccesses(const uint32_t* in, uint32_t* out) {
  const uint32_t thread = ThreadIndex().x, other = thread * 5 % kThreads;
  const Words4 once = LoadOnce16(in + other * 4), again = LoadWords4(in + thread * 4);
  const uint32_t one_once = LoadOnce4(in + other);
  const Words2 two_once = LoadOnce8(in + other * 2), two = LoadWords2(in + thread * 2);
  Words4 sum;
  SLUICE_UNROLL
  for (int i = 0; i < 4; ++i) {
    sum.word[i] = once.word[i] * 3 + again.word[i] * 5 + two_once.word[i % 2] * 7 +
                  two.word[i % 2] + one_once;
  }
  StoreWords4(out + (kThreads - 1 - thread) * 4, sum);
}

SLUICE_KERNEL(kThreads) Copies(const uint32_t* in, uint32_t* out) {
  SLUICE_SHARED(uint32_t, first, [kThreads * 4]);
  SLUICE_SHARED(uint32_t, second, [kThreads * 4]);
  const uint32_t thread = ThreadIndex().x, other = thread * 7 % kThreads;
  CopyAsync16(first + other * 4, in + thread * 4);
  EndCopies();
  CopyAsync16(second + thread * 4, in + other * 4, thread % 3 != 0);
  EndCopies();
  WaitForCopies<1>();
  SyncBlock();
  for (uint32_t i = 0; i < 4; ++i) out[thread * 4 + i] = first[thread * 4 + i];
  WaitForCopies<0>();
  SyncBlock();
  for (uint32_t i = 0; i < 4; ++i) out[(kThreads + thread) * 4 + i] = second[(63 - thread) * 4 + i];
}

SLUICE_KERNEL(kThreads) DynamicMemory(const uint32_t* in, uint32_t* out) {
  SLUICE_DYNAMIC_SHARED(bytes);
  const uint32_t thread = ThreadIndex().x;
  auto* const words = reinterpret_cast<uint32_t*>(bytes);
  words[thread] = in[thread];
  SyncBlock();
  out[thread] = words[kThreads - 1 - thread];
}

SLUICE_KERNEL(kThreads) HalvesToFloats(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    const auto low = static_cast<uint16_t>(in[i]);
    return Result(HalfToFloat(low)) ^ Result(LowHalf(in[i])) ^ Result(HighHalf(in[i])) ^
           Result(Bf16ToFloat(low));
  });
}
SLUICE_KERNEL(kThreads) FloatsToHalves(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    const float x = FloatOf(in[i]), y = FloatOf(in[(i + 1) % kNumbers]);
    const uint32_t within = HalfResult(FloatToHalf(WithinHalf(y)));
    return PairResult(PackHalves(x, y)) + (HalfResult(FloatToHalf(x)) << 1) + (within << 3);
  });
}
SLUICE_KERNEL(kThreads) FloatsToFewerBits(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    const float x = FloatOf(in[i]), y = FloatOf(in[(i + 1) % kNumbers]);
    return static_cast<uint32_t>(FloatToBf16(x)) | FloatToE4m3(y) << 16;
  });
}
SLUICE_KERNEL(kThreads) Bf16AsHalves(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) { return PairResult(Bf16ToHalves(in[i])); });
}
SLUICE_KERNEL(kThreads) HalvesMinusHalves(const uint32_t* in, uint32_t* out) {
  ForEach(out,
          [in](uint32_t i) { return PairResult(SubtractHalves(in[i], in[(i + 1) % kNumbers])); });
}
SLUICE_KERNEL(kThreads) HalvesTimesHalves(const uint32_t* in, uint32_t* out) {
  ForEach(out,
          [in](uint32_t i) { return PairResult(MultiplyHalves(in[i], in[(i + 1) % kNumbers])); });
}
SLUICE_KERNEL(kThreads) FusedHalves(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    return PairResult(FmaHalves(in[i], in[(i + 1) % kNumbers], in[(i + 2) % kNumbers]));
  });
}
SLUICE_KERNEL(kThreads) Bytes(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    const uint32_t a = in[i], b = in[(i + 1) % kNumbers];
    return SelectBytes<0x5410>(a, b) + 3 * SelectBytes<0x7632>(a, b) +
           5 * SelectBytes<0x0467>(a, b) +
           7 * SelectBytes(a, b, in[(i + 2) % kNumbers]);
  });
}
SLUICE_KERNEL(kThreads) FusedFloats(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    return Result(
        Fma(FloatOf(in[i]), FloatOf(in[(i + 1) % kNumbers]), FloatOf(in[(i + 2) % kNumbers])));
  });
}
// A product and a sum that must not become a fused one.
SLUICE_KERNEL(kThreads) PlainFloats(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    return Result(FloatOf(in[i]) * FloatOf(in[(i + 1) % kNumbers]) +
                  FloatOf(in[(i + 2) % kNumbers]));
  });
}
SLUICE_KERNEL(kThreads) LargerFloats(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    return Result(Larger(FloatOf(in[i]), FloatOf(in[(i + 1) % kNumbers])));
  });
}
SLUICE_KERNEL(kThreads) WholeNumbers(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    const float x = FloatOf(in[i]);
    return static_cast<uint32_t>(RoundToInt(x)) * 3 + static_cast<uint32_t>(RoundToInt(x * 0.25F));
  });
}
SLUICE_KERNEL(kThreads) Quotients(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    return Result(Divide(FloatOf(in[i]), FloatOf(in[(i + 1) % kNumbers])));
  });
}
SLUICE_KERNEL(kThreads) Roots(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) { return Result(SquareRoot(FloatOf(in[i]))); });
}
SLUICE_KERNEL(kThreads) Exponentials(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) { return Result(Exp(FloatOf(in[i]))); });
}
SLUICE_KERNEL(kThreads) Tangents(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) { return Result(Tanh(FloatOf(in[i]))); });
}
// Of whole numbers, and their doubles' halves one after the other.
SLUICE_KERNEL(kThreads) Logarithms(const uint32_t* in, uint32_t* out) {
  ForEach(out, [in](uint32_t i) {
    const uint64_t number = static_cast<uint64_t>(in[i / 2]) << (in[i / 2] % 17) | 1;
    const double log = Log(static_cast<double>(number) * 0x1p-30);
    const auto bits = __builtin_bit_cast(uint64_t, log);
    return static_cast<uint32_t>(i % 2 == 0 ? bits : bits >> 32);
  });
}

SLUICE_KERNEL(kThreads) MatrixLoads(const uint32_t* in, uint32_t* out) {
  SLUICE_SHARED(uint32_t, words, [kThreads * 4]);
  const uint32_t thread = ThreadIndex().x;
  for (uint32_t i = 0; i < 4; ++i) words[thread * 4 + i] = in[thread * 4 + i];
  SyncBlock();
  uint32_t loaded[4], transposed[4];
  LoadMatrices(words + thread * 11 % kThreads * 4, loaded);
  LoadMatricesTransposed(words + thread * 13 % kThreads * 4, transposed);
  for (uint32_t i = 0; i < 4; ++i) {
    out[thread * 8 + i] = loaded[i];
    out[thread * 8 + 4 + i] = transposed[i];
  }
}

// Two products, the second on top of the first; c begins with whole numbers.
template <class Number, class Multiply>
SLUICE_DEVICE void Products(const uint32_t* in, uint32_t* out, Multiply multiply) {
  const uint32_t thread = ThreadIndex().x;
  Number c[4];
  for (uint32_t i = 0; i < 4; ++i) c[i] = static_cast<Number>(static_cast<int32_t>(thread * 4 + i));
  for (uint32_t product = 0; product < 2; ++product) {
    const uint32_t* const words = in + (product * kThreads + thread) * 6;
    const uint32_t a[4] = {words[0], words[1], words[2], words[3]}, b[2] = {words[4], words[5]};
    multiply(a, b, c);
  }
  for (uint32_t i = 0; i < 4; ++i)
    out[thread * 4 + i] = static_cast<uint32_t>(static_cast<int32_t>(c[i]));
}
SLUICE_KERNEL(kThreads) ProductsOfBf16(const uint32_t* in, uint32_t* out) {
  Products<float>(in, out, [](const auto& a, const auto& b, auto& c) { MultiplyBf16(a, b, c); });
}
SLUICE_KERNEL(kThreads) ProductsOfF16(const uint32_t* in, uint32_t* out) {
  Products<float>(in, out, [](const auto& a, const auto& b, auto& c) { MultiplyF16(a, b, c); });
}
SLUICE_KERNEL(kThreads) ProductsOfInt8(const uint32_t* in, uint32_t* out) {
  Products<int32_t>(in, out, [](const auto& a, const auto& b, auto& c) { MultiplyInt8(a, b, c); });
}
SLUICE_KERNEL(kThreads) ProductsOfE4m3(const uint32_t* in, uint32_t* out) {
  Products<float>(in, out, [](const auto& a, const auto& b, auto& c) { MultiplyE4m3(a, b, c); });
}

constexpr ConformanceCase Mapped(const char* name, Words words,
                                 void (*kernel)(const uint32_t*, uint32_t*)) {
  return {name, words, kNumbers, kNumbers, 1, kThreads, kernel};
}
const ConformanceCase kCases[] = {
    {"Indices", Words::kAny, 1, 3 * kThreads * 4, 3, kThreads, Indices},
    {"Shuffles", Words::kAny, 2 * kThreads, 8 * kThreads, 1, kThreads, Shuffles},
    {"Reductions", Words::kLogits, 2 * kThreads, 8 * kThreads, 1, kThreads, Reductions},
    {"Barriers", Words::kAny, 128, 128, 1, 128, Barriers},
    {"Atomics", Words::kAny, kThreads, 20, 2, kThreads, Atomics},
    {"WideAccesses", Words::kAny, 4 * kThreads, 4 * kThreads, 1, kThreads, WideAccesses},
    {"Copies", Words::kAny, 4 * kThreads, 8 * kThreads, 1, kThreads, Copies},
    {"DynamicMemory", Words::kAny, kThreads, kThreads, 1, kThreads, DynamicMemory},
    Mapped("HalvesToFloats", Words::kHalves, HalvesToFloats),
    Mapped("FloatsToHalves", Words::kFloats, FloatsToHalves),
    Mapped("FloatsToFewerBits", Words::kFloats, FloatsToFewerBits),
    Mapped("Bf16AsHalves", Words::kFloats, Bf16AsHalves),
    Mapped("HalvesMinusHalves", Words::kHalves, HalvesMinusHalves),
    Mapped("HalvesTimesHalves", Words::kHalves, HalvesTimesHalves),
    Mapped("FusedHalves", Words::kHalves, FusedHalves),
    Mapped("Bytes", Words::kAny, Bytes),
    Mapped("FusedFloats", Words::kFloats, FusedFloats),
    Mapped("PlainFloats", Words::kFloats, PlainFloats),
    Mapped("LargerFloats", Words::kFloats, LargerFloats),
    Mapped("WholeNumbers", Words::kFloats, WholeNumbers),
    Mapped("Quotients", Words::kFloats, Quotients),
    Mapped("Roots", Words::kFloats, Roots),
    Mapped("Exponentials", Words::kLogits, Exponentials),
    Mapped("Tangents", Words::kLogits, Tangents),
    Mapped("Logarithms", Words::kAny, Logarithms),
    {"MatrixLoads", Words::kAny, 4 * kThreads, 8 * kThreads, 1, kThreads, MatrixLoads},
    {"ProductsOfBf16", Words::kBf16Whole, 12 * kThreads, 4 * kThreads, 1, kThreads, ProductsOfBf16},
    {"ProductsOfF16", Words::kF16Whole, 12 * kThreads, 4 * kThreads, 1, kThreads, ProductsOfF16},
    {"ProductsOfInt8", Words::kAny, 12 * kThreads, 4 * kThreads, 1, kThreads, ProductsOfInt8},
    {"ProductsOfE4m3", Words::kE4m3Whole, 12 * kThreads, 4 * kThreads, 1, kThreads, ProductsOfE4m3},
};

}  // namespace

std::span<const ConformanceCase> ConformanceCases() { return kCases; }

cudaError_t LaunchCase(const ConformanceCase& conformance_case, const uint32_t* in, uint32_t* out,
                       cudaStream_t stream) {
  return Launch(conformance_case.name, conformance_case.kernel,
                {.grid_x = conformance_case.blocks,
                 .threads = conformance_case.threads,
                 .shared_bytes = kThreads * 4},
                stream, in, out);
}

}  // namespace sluice::cuda
