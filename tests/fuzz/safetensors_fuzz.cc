// Any bytes as a safetensors file: through the parser, to the ends of every tensor.
#include <cstdint>
#include <vector>

#include "model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<uint8_t> bytes(data, data + size);  // ASan sees its end
  const auto file = sluice::SafetensorsFile::Parse(bytes, "fuzz");
  if (!file.ok()) return 0;
  unsigned sum = 0;
  for (const sluice::SafetensorsTensor& tensor : file->tensors()) {
    if (tensor.num_elements() == 0) continue;
    sum += tensor.data[0] + tensor.data[tensor.num_bytes - 1];
  }
  volatile unsigned keep = sum;
  (void)keep;
  return 0;
}
