// Any bytes as a GGUF file: through the parser, every accessor and the model's own checks.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/inspect.h"
#include "model/model_file.h"
#include "tokenizer/tokenizer.h"

namespace {

void ReadEverything(const sluice::GgufFile& file) {
  for (const sluice::GgufMetadata& entry : file.metadata()) {
    (void)file.GetInt(entry.key, INT64_MIN, INT64_MAX);
    (void)file.GetFloat(entry.key, -1, 1);
    (void)file.GetBoolOr(entry.key, false);
    (void)file.GetString(entry.key);
    (void)file.GetStrings(entry.key, 1 << 16);
    (void)file.GetInts(entry.key, 1 << 16);
    (void)file.GetFloats(entry.key, 1 << 16);
  }
  unsigned sum = 0;
  for (const sluice::ModelTensor& tensor : file.tensors().tensors) {
    sum += tensor.data[0] + tensor.data[tensor.num_bytes - 1];
  }
  volatile unsigned keep = sum;
  (void)keep;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<uint8_t> bytes(data, data + size);  // aligned, and ASan sees its end
  auto file = sluice::GgufFile::Parse(bytes, "fuzz");
  if (!file.ok()) return 0;
  ReadEverything(**file);
  const auto model = sluice::ModelFile::FromGguf(*std::move(file));
  if (!model.ok()) return 0;
  (void)sluice::InspectModel(*model, 512, 32);
  (void)sluice::Tokenizer::Create(model->info.tokenizer);
  return 0;
}
