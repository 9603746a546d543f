// conformance write FILE: runs every case and writes what it read and what came out.
// conformance check FILE: runs every case and compares with what FILE says; 77 without a device.
//
// Linked twice: with the emulator, whose results are written, and with nvcc's kernels.
// FILE: a line a case of name, blocks, threads, number of words read and of words that came out,
// then these words in hexadecimal.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/cuda_proof/conformance.h"

namespace sluice::cuda {
namespace {

constexpr int kSkipped = 77;

void Require(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return;
  fmt::print(stderr, "{}: {}\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Of f16 and of f32: zeros, the least and the largest of either kind, infinities, NaN, 1, 2 and 3.
constexpr uint32_t kSpecialHalves[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff,
                                       0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x3c00, 0x4000, 0x4200};
constexpr uint32_t kSpecialFloats[] = {0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff,
                                       0x00800000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
                                       0x7fc00000, 0x3f800000, 0x40000000, 0x477ff000, 0x33000000};

uint32_t HalfWord(uint32_t random) {
  if (random % 8 == 0) return kSpecialHalves[random / 8 % std::size(kSpecialHalves)];
  // Half of them near 1, so that sums are not of one number only.
  return random % 2 == 0 ? random >> 16 : (random >> 16 & 0x83ff) | (13 + random / 2 % 5) << 10;
}
uint32_t FloatWord(uint32_t random, uint32_t more) {
  if (more % 8 == 0) return kSpecialFloats[more / 8 % std::size(kSpecialFloats)];
  return more % 2 == 0 ? random : (random & 0x807fffff) | (120 + more / 2 % 16) << 23;
}
float Whole(uint32_t random) { return static_cast<float>(static_cast<int>(random % 16) - 8); }
uint32_t Bf16Of(float x) { return std::bit_cast<uint32_t>(x) >> 16; }
uint32_t F16Of(float x) { return std::bit_cast<uint16_t>(static_cast<_Float16>(x)); }
uint32_t E4m3Of(float x) {  // of a number that it has
  const auto bits = std::bit_cast<uint32_t>(x * 0x1p-120F);
  return (bits >> 24 & 0x80) | (bits >> 20 & 0x7f);
}

uint32_t Word(Words words, std::mt19937& random) {
  const auto a = static_cast<uint32_t>(random()), b = static_cast<uint32_t>(random());
  switch (words) {
    case Words::kAny:
      return a;
    case Words::kFloats:
      return FloatWord(a, b);
    case Words::kHalves:
      return HalfWord(a) | HalfWord(b) << 16;
    case Words::kLogits:
      return std::bit_cast<uint32_t>(static_cast<float>(static_cast<int>(a % 200001) - 100000) /
                                     1000.0F);
    case Words::kBf16Whole:
      return Bf16Of(Whole(a)) | Bf16Of(Whole(b)) << 16;
    case Words::kF16Whole:
      return F16Of(Whole(a)) | F16Of(Whole(b)) << 16;
    case Words::kE4m3Whole: {
      uint32_t word = 0;
      for (uint32_t i = 0; i < 4; ++i) word |= E4m3Of(Whole(a >> (4 * i))) << (8 * i);
      return word;
    }
  }
  return 0;
}

std::vector<uint32_t> InputOf(const ConformanceCase& c) {
  std::mt19937 random(c.num_in);
  std::vector<uint32_t> in(c.num_in);
  for (uint32_t& word : in) word = Word(c.words, random);
  return in;
}

std::vector<uint32_t> Run(const ConformanceCase& c, const std::vector<uint32_t>& in) {
  std::vector<uint32_t> out(c.num_out);
  const size_t in_bytes = in.size() * 4, out_bytes = out.size() * 4;
  void *device_in = nullptr, *device_out = nullptr;
  Require(cudaMalloc(&device_in, in_bytes), c.name);
  Require(cudaMalloc(&device_out, out_bytes), c.name);
  Require(cudaMemcpy(device_in, in.data(), in_bytes, cudaMemcpyHostToDevice), c.name);
  Require(cudaMemset(device_out, 0, out_bytes), c.name);
  Require(LaunchCase(c, static_cast<const uint32_t*>(device_in), static_cast<uint32_t*>(device_out),
                     nullptr),
          c.name);
  Require(cudaDeviceSynchronize(), c.name);
  Require(cudaMemcpy(out.data(), device_out, out_bytes, cudaMemcpyDeviceToHost), c.name);
  Require(cudaFree(device_in), c.name);
  Require(cudaFree(device_out), c.name);
  return out;
}

int Write(const char* file) {
  std::ofstream to(file);
  for (const ConformanceCase& c : ConformanceCases()) {
    const std::vector<uint32_t> in = InputOf(c), out = Run(c, in);
    to << fmt::format("{} {} {} {} {}", c.name, c.blocks, c.threads, in.size(), out.size());
    for (const uint32_t word : in) to << fmt::format(" {:x}", word);
    for (const uint32_t word : out) to << fmt::format(" {:x}", word);
    to << '\n';
  }
  to.close();
  if (!to) fmt::print(stderr, "{}: cannot be written\n", file);
  return to ? 0 : 1;
}

// The outputs of one line of FILE; empty where the line is not of this case.
std::vector<uint32_t> Recorded(std::istream& from, const ConformanceCase& c) {
  std::string name;
  uint32_t blocks = 0, threads = 0, num_in = 0, num_out = 0;
  from >> name >> blocks >> threads >> num_in >> num_out;
  if (!from || name != c.name || num_in != c.num_in || num_out != c.num_out) return {};
  std::vector<uint32_t> words(size_t{num_in} + num_out);
  from >> std::hex;
  for (uint32_t& word : words) from >> word;
  from >> std::dec;
  return {words.begin() + num_in, words.end()};
}

int Check(const char* file) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices < 1) {
    fmt::print("skipped: no device\n");
    return kSkipped;
  }
  cudaDeviceProp device{};
  Require(cudaGetDeviceProperties(&device, 0), "device 0");
  const bool has_e4m3 = device.major * 10 + device.minor >= 89;
  std::ifstream from(file);
  int wrong = 0;
  for (const ConformanceCase& c : ConformanceCases()) {
    const std::vector<uint32_t> wanted = Recorded(from, c);
    if (wanted.empty()) {
      fmt::print(stderr, "{}: is not what this program wrote ({})\n", file, c.name);
      return 1;
    }
    if (c.words == Words::kE4m3Whole && !has_e4m3) {
      fmt::print("{}: not on {}\n", c.name, device.name);
      continue;
    }
    const std::vector<uint32_t> got = Run(c, InputOf(c));
    const auto [g, w] = std::ranges::mismatch(got, wanted);
    if (g == got.end()) continue;
    ++wrong;
    fmt::print("{}: word {} is {:#x}, the emulator's is {:#x}\n", c.name, g - got.begin(), *g, *w);
  }
  fmt::print("{}: {} cases, {} wrong\n", device.name, ConformanceCases().size(), wrong);
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace sluice::cuda

int main(int argc, char** argv) {
  const std::string_view command = argc == 3 ? argv[1] : "";
  if (command == "write") return sluice::cuda::Write(argv[2]);
  if (command == "check") return sluice::cuda::Check(argv[2]);
  fmt::print(stderr, "usage: conformance write|check FILE\n");
  return 2;
}
