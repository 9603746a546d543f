#include "model/tensor_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace sluice {

std::string QuoteForMessage(std::string_view name) {
  constexpr size_t kMax = 64;
  std::string out;
  for (const char c : name.substr(0, kMax)) {
    if (c >= 0x20 && c < 0x7f && c != '\'') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (name.size() > kMax) out += "...";
  return out;
}

std::string ModelTensor::ShapeString() const {
  return fmt::format("[{}]", fmt::join(dims, dims + num_dims, ", "));
}

const ModelTensor* TensorTable::Find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(tensors, name, {}, &ModelTensor::name);
  return it != tensors.end() && it->name == name ? &*it : nullptr;
}

}  // namespace sluice
