// A rank's share of a decoder (tensor parallelism, arXiv:1909.08053 section 3): whole attention
// heads, columns of the FFN and of every expert, and a range of the vocabulary. q, k, v, gate, up
// and head are cut by rows, o and down by columns; embedding, norms and routers are whole on every
// rank. Nothing is read or copied before it is loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "kernels/view.h"
#include "model/model_config.h"
#include "model/weight_source.h"
#include "model/weight_views.h"

namespace sluice {

struct ModelShare {
  ModelConfig config;   // heads and FFN columns of the rank; the rest is the model's
  WeightViews weights;  // a tied head is cut when it is loaded: see VocabOfRank
  std::vector<std::unique_ptr<WeightSource>> slices;  // that the views name
};

// Errors: InvalidArgument, with the weight, its size and the ranks, where a share would not be
// whole: query heads, FFN columns, quantised blocks of o or down. KV heads are shared out evenly,
// or each of them is on equally many ranks.
absl::Status CheckRanks(const ModelConfig& config, const WeightViews& weights, int32_t num_ranks);

// The config of each rank, for ranks that pass the check. One rank: the model's.
[[nodiscard]] ModelConfig ConfigOfRank(const ModelConfig& config, int32_t num_ranks);
// The views' memory outlives the share.
[[nodiscard]] ModelShare ShareOfRank(const ModelConfig& config, const WeightViews& weights,
                                     int32_t rank, int32_t num_ranks);

// Of a vocabulary, rank r has [r * n, (r + 1) * n) as far as it goes. n is a multiple of 16, so
// that a backend that packs rows in panels can take the share of a tied head from its table.
[[nodiscard]] int32_t ColumnsOfRank(int32_t vocab_size, int32_t num_ranks);
// These rows of a head, which has no source.
[[nodiscard]] WeightView VocabOfRank(const WeightView& head, int32_t vocab_size, int32_t rank,
                                     int32_t num_ranks);

}  // namespace sluice
