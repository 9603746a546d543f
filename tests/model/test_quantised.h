// Replaces float matrices of a TestHfFolder by quantised ones with codes drawn from a fixed seed.
#pragma once

#include <string>
#include <vector>

#include "tests/model/test_hf_folder.h"

namespace sluice {

inline constexpr const char* kGptqConfig =
    R"({"quant_method":"gptq","bits":4,"group_size":32,"sym":true,"desc_act":false})";
inline constexpr const char* kPackedConfig =
    R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{"group_0":)"
    R"({"targets":["Linear"],"weights":{"num_bits":4,"type":"int","strategy":"group",)"
    R"("group_size":32,"symmetric":false}}}})";
inline constexpr const char* kFp8Config =
    R"({"quant_method":"fp8","weight_block_size":[16,32],"activation_scheme":"dynamic"})";
inline constexpr const char* kAwqConfig =
    R"({"quant_method":"awq","bits":4,"group_size":32,"version":"gemm","zero_point":true})";

// Each sets quantization_config and turns every linear layer but the head into the form it names.
void QuantiseAsGptq(TestHfFolder& folder);
void QuantiseAsPacked(TestHfFolder& folder);
void QuantiseAsFp8(TestHfFolder& folder);
void QuantiseAsAwq(TestHfFolder& folder);

// The bytes of numbers, little-endian.
template <typename T>
std::string BytesOf(const std::vector<T>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T)};
}

}  // namespace sluice
