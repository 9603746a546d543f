// Any text as the JSON files of a Hugging Face folder: config.json, generation_config.json and the
// keys read from tokenizer_config.json.
#include <cstdint>
#include <string_view>

#include "model/hf_config.h"
#include "model/hf_info.h"
#include "model/rope.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = sluice::HfJson::Parse(text, "fuzz");
  if (!json.ok()) return 0;
  (void)sluice::ReadHfGeneration(json->root());
  (void)sluice::ReadHfTokenIds(json->root(), "eos_token_id", 1000);
  (void)sluice::ReadHfChatTemplate("/nonexistent", json->root());
  const auto config = sluice::ReadHfConfig(json->root());
  if (config.ok()) (void)sluice::MakeRopeTable(config->config.rope, 16);
  return 0;
}
