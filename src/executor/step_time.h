// How long a step takes on a device that is not there: a roofline over what the step reads and
// computes, from a device's and a model's numbers. Plain arithmetic, no clock.
//
//   t = step + L * layer + T * token + O * row
//     + max(weight bytes / bandwidth, product FLOPs / peak)    the layers' products, T tokens
//     + max(head bytes / bandwidth, head FLOPs / peak)         the head, O rows with output
//     + max(KV bytes / bandwidth, attention FLOPs / peak)      attention
//
// The three run one after the other, so each has its own bound. Bandwidth and peak are the data
// sheet's times an efficiency. Source of the method: the roofline model, Williams et al., CACM
// 52(4), 2009.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "model/model_config.h"
#include "step/batch_plan.h"

namespace sluice {

// A device's numbers, as bench/engine/devices/*.toml document them.
struct DeviceSpec {
  std::string name;
  int64_t memory_bytes = 0;
  double bandwidth_bytes_per_s = 0, bandwidth_efficiency = 1;
  double flops_per_s = 0, fp8_flops_per_s = 0, flops_efficiency = 1;  // fp8 0: as the others
  double attention_efficiency = 0;  // of flops_per_s, in attention; 0: as flops_efficiency
  double step_s = 0;   // of every step: what the host and the launch of a graph leave uncovered
  double layer_s = 0;  // of every layer: its kernels' launches, tails and barriers
  double token_s = 0;  // of every new token
  double row_s = 0;    // of every row with output: the sampler
  int32_t max_steps_in_flight = 2;
};

// What of a model decides how long its steps take and what memory it needs.
struct ModelShape {
  std::string name;
  ModelConfig config;
  double weight_bytes_per_parameter = 2;
  double kv_bytes_per_element = 2;
  bool fp8_products = false;  // at the device's FP8 rate
  bool tied_head = false;     // the embedding is the head

  // Of all layers, every expert included; without the head and the embedding.
  [[nodiscard]] double LayerParameters() const { return config.num_layers * ParametersOf(true); }
  // Of what one token passes through.
  [[nodiscard]] double ActiveParameters() const { return config.num_layers * ParametersOf(false); }
  [[nodiscard]] double HeadParameters() const {
    return static_cast<double>(config.vocab_size) * config.model_dim;
  }
  [[nodiscard]] int64_t WeightBytes() const;
  [[nodiscard]] int64_t KvTokenBytes() const;  // keys and values of one token in all layers

 private:
  [[nodiscard]] double ParametersOf(bool all_experts) const;
};

// What a step does, as far as its time depends on it.
struct StepWork {
  int64_t tokens = 0;          // T
  int64_t rows = 0;            // R
  int64_t outputs = 0;         // O: rows that sample or pool
  int64_t context_tokens = 0;  // sum of the rows' contexts: tokens whose KV is read
  int64_t attended = 0;        // sum over the new tokens of the positions each attends over

  static StepWork Of(const BatchPlan& plan);
};

// The formula above with a device's and a model's numbers multiplied out, in seconds. As it stands
// without them: 1 ms and 10 µs a token.
struct StepTimeModel {
  double step_s = 1e-3, token_s = 10e-6, row_s = 0;
  double weights_s = 0;          // reading all layers' weights
  double experts_s = 0;          // of that: reading every expert
  double unused_experts = 0;     // the part of the experts that one token does not choose
  double token_products_s = 0;   // the layers' products of a token
  double head_s = 0;             // reading the head
  double output_products_s = 0;  // the head's products of a row
  double kv_read_s = 0;          // reading or writing one token's KV
  double attended_s = 0;         // attention of one token over one position

  [[nodiscard]] static StepTimeModel Of(const DeviceSpec& device, const ModelShape& shape);
  [[nodiscard]] absl::Duration TimeOf(const StepWork& work) const;
};

}  // namespace sluice
