#include "tests/model/test_safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace sluice {

TestSafetensor& TestSafetensors::Tensor(const std::string& name) {
  const auto it = std::ranges::find(tensors, name, &TestSafetensor::name);
  SLUICE_CHECK(it != tensors.end(), "{}", name);
  return *it;
}

std::vector<uint8_t> TestSafetensors::Build() const {
  std::string text = R"({"__metadata__":{"format":"pt"})", data;
  for (const TestSafetensor& tensor : tensors) {
    const auto begin = static_cast<int64_t>(data.size());
    const auto end = begin + static_cast<int64_t>(tensor.data.size());
    const auto range = tensor.range.value_or(std::pair(begin, end));
    text +=
        fmt::format(R"(,"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", tensor.name,
                    tensor.dtype, fmt::join(tensor.shape, ","), range.first, range.second);
    data += tensor.data;
  }
  text += extra + "}";
  if (header.has_value()) text = *header;
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = header_bytes.value_or(text.size());
  const std::string bytes =
      std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + text + data;
  return {bytes.begin(), bytes.end()};
}

}  // namespace sluice
