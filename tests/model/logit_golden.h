// Logits that another implementation computed from a folder's weights, and the same from ours.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "model/hf_folder.h"
#include "model/weight_views.h"

namespace sluice {

struct LogitGolden {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<std::vector<float>> logits;  // after each of `positions`
};

// golden.bin as tests/golden/make_families.py writes it; a failure of the test if it is not that.
LogitGolden ReadLogitGolden(const std::string& path);

// The largest error over the deviation of the golden logits; NaN stays.
double RelativeError(const LogitGolden& golden, const std::vector<std::vector<float>>& logits);

// Logits (or `states`) of golden.positions from the weights: the sequence cut behind each of them,
// all in one step.
std::vector<std::vector<float>> LogitsInOneBatch(const LogitGolden& golden,
                                                 const ModelConfig& config,
                                                 const WeightViews& weights, Ops& ops,
                                                 bool states = false,
                                                 KvType kv_type = KvType::kF16);
// The same from one sequence that grows by the tokens up to the next position.
std::vector<std::vector<float>> LogitsInChunks(const LogitGolden& golden, const ModelConfig& config,
                                               const WeightViews& weights, Ops& ops,
                                               KvType kv_type = KvType::kF16);

// A folder under tests/golden; empty, after a failure of the test, without SLUICE_SOURCE_DIR.
std::string GoldenFolder(const std::string& name);

// Such a folder with a model and its golden.bin.
struct GoldenModel {
  std::string path;
  std::unique_ptr<HfFolder> folder;
  WeightViews views;
  LogitGolden logits;
  [[nodiscard]] const ModelConfig& config() const { return folder->config().config; }
};
// The process ends where there is no such model: nothing can be tested without.
GoldenModel OpenGoldenModel(const std::string& name, bool keep_fp8 = false);

inline std::vector<std::vector<float>> LogitsInOneBatch(const GoldenModel& model, Ops& ops,
                                                        bool states = false,
                                                        KvType kv_type = KvType::kF16) {
  return LogitsInOneBatch(model.logits, model.config(), model.views, ops, states, kv_type);
}
inline std::vector<std::vector<float>> LogitsInChunks(const GoldenModel& model, Ops& ops,
                                                      KvType kv_type = KvType::kF16) {
  return LogitsInChunks(model.logits, model.config(), model.views, ops, kv_type);
}

}  // namespace sluice
