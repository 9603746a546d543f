// Philox4x32-10: a counter-based random number generator. The draw of a token is a pure function of
// (seed, choice, number of output tokens), so it survives preemption, restarts and any batching.
// Shared by every backend. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011, section 3.3 and table 2.
#pragma once

#include <cstdint>

namespace sluice {

struct PhiloxBlock {
  uint32_t word[4];
};

// Ten rounds over a 128-bit counter under a 64-bit key.
[[nodiscard]] static constexpr PhiloxBlock Philox4x32(PhiloxBlock counter, uint32_t key0,
                                                      uint32_t key1) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;  // golden ratio, sqrt(3) - 1
  PhiloxBlock x = counter;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * x.word[0];
    const uint64_t product1 = kMultiplier1 * x.word[2];
    x = {{static_cast<uint32_t>(product1 >> 32) ^ x.word[1] ^ key0, static_cast<uint32_t>(product1),
          static_cast<uint32_t>(product0 >> 32) ^ x.word[3] ^ key1,
          static_cast<uint32_t>(product0)}};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return x;
}

// The uniform draw in [0, 1) of output token number `num_output_tokens` of a sequence: 53 random
// bits. The counter is (num_output_tokens, choice, 0, 0), the key is the seed.
[[nodiscard]] static constexpr double SampleDraw(uint64_t seed, uint32_t choice,
                                                 uint32_t num_output_tokens) {
  const PhiloxBlock block =
      Philox4x32({{num_output_tokens, choice, 0, 0}}, static_cast<uint32_t>(seed),
                 static_cast<uint32_t>(seed >> 32));
  const uint64_t bits = (static_cast<uint64_t>(block.word[0]) << 32) | block.word[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace sluice
