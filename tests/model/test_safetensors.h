// Builds safetensors files in memory, right or wrong in any field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

struct TestSafetensor {
  std::string name;
  std::string dtype = "F32";
  std::vector<int64_t> shape;
  std::string data;
  std::optional<std::pair<int64_t, int64_t>> range;  // empty: the true one
};

struct TestSafetensors {
  std::vector<TestSafetensor> tensors;
  std::string extra;                     // JSON text after the tensors, with its comma
  std::optional<uint64_t> header_bytes;  // empty: the true one
  std::optional<std::string> header;     // in place of the JSON made from the tensors

  TestSafetensor& Tensor(const std::string& name);  // there, or the test ends
  [[nodiscard]] std::vector<uint8_t> Build() const;
};

}  // namespace sluice
