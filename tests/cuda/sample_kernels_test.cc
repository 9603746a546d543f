// The sampler on the device: what it draws, against the candidates that sorting gives.
#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "kernels/philox.h"
#include "tests/cuda/device_fixture.h"
#include "tests/kernels/reference.h"

namespace sluice::cuda {
namespace {

class SampleKernels : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, SampleKernels, ::testing::Values(0, 1, 2));

constexpr int32_t kVocab = 1100;

// Multiples of 1/8, so that ties are frequent.
float LogitAt(int row, int token) {
  return static_cast<float>((token * 7919 + row * 104729) % 389 % 67) / 8 - 4;
}

struct Request {
  SlotView slot;
  std::vector<int32_t> stops, prompt, output;
  std::vector<std::pair<int32_t, float>> bias;
};
std::vector<Request> Requests() {
  std::vector<Request> requests(9);
  for (size_t i = 0; i < requests.size(); ++i) {
    SlotView& slot = requests[i].slot;
    slot.slot = static_cast<int32_t>((i * 2 + 1) % requests.size());
    slot.seed = 1000 + i;
    slot.choice = static_cast<uint32_t>(i);
    requests[i].output = {5, 9, 5};
  }
  requests[0].slot.temperature = 0;
  requests[1].slot.num_logprobs = 3;
  requests[2].slot.top_k = 10;
  requests[3].slot.top_p = 0.5F;
  requests[4].slot.min_p = 0.1F;
  requests[4].slot.temperature = 0.7F;
  requests[5].slot.repetition_penalty = 1.3F;
  requests[5].slot.frequency_penalty = 0.25F;
  requests[5].slot.presence_penalty = 0.5F;
  requests[5].slot.top_k = 40;
  requests[5].prompt = {1, 2, 3, 3, 1099};
  for (int token = 0; token < kVocab; token += 3) requests[5].output.push_back(token);
  requests[6].bias = {{3, 1.0F}, {7, 100.0F}, {8, -100.0F}, {1099, 99.5F}};
  requests[6].stops = {7};
  requests[6].slot.min_tokens = 100;
  requests[6].slot.num_logprobs = 2;
  requests[6].slot.temperature = 2;
  requests[7].slot.top_k = 300;
  requests[7].slot.top_p = 0.9F;
  requests[7].slot.min_p = 0.01F;
  requests[8].slot.temperature = 0;
  requests[8].slot.repetition_penalty = 1.1F;
  for (Request& request : requests) {
    request.slot.stop_tokens = request.stops.data();
    request.slot.num_stop_tokens = static_cast<int32_t>(request.stops.size());
    request.slot.bias = request.bias.data();
    request.slot.num_bias = static_cast<int32_t>(request.bias.size());
    request.slot.prompt_tokens = request.prompt.data();
    request.slot.num_prompt_tokens = static_cast<int32_t>(request.prompt.size());
    request.slot.output_tokens = request.output.data();
    request.slot.num_output_tokens = static_cast<int32_t>(request.output.size());
  }
  return requests;
}

bool CountsTokens(const SlotView& slot) {
  return slot.repetition_penalty != 1 || slot.presence_penalty != 0 || slot.frequency_penalty != 0;
}

// The slots' table on the device, filled by UpdateSlots.
struct DeviceSlots {
  explicit DeviceSlots(const std::vector<Request>& requests)
      : rows(requests.size()),
        slots(rows),
        bias(rows * kMaxSlotBias),
        stops(rows * kMaxSlotStops),
        counts(rows * kVocab),
        last(std::vector<int32_t>(rows, -5)) {
    std::vector<SlotUpdate> updates;
    std::vector<TokenBias> biases(1);
    std::vector<int32_t> stop_tokens(1), history(1);
    for (const Request& request : requests) {
      const SlotView& slot = request.slot;
      SlotUpdate update{};
      update.slot = slot.slot;
      update.values = {.temperature = slot.temperature,
                       .top_p = slot.top_p,
                       .min_p = slot.min_p,
                       .top_k = slot.top_k,
                       .repetition_penalty = slot.repetition_penalty,
                       .presence_penalty = slot.presence_penalty,
                       .frequency_penalty = slot.frequency_penalty,
                       .choice = slot.choice,
                       .seed = slot.seed,
                       .min_tokens = slot.min_tokens,
                       .num_logprobs = slot.num_logprobs,
                       .num_stop_tokens = slot.num_stop_tokens,
                       .num_bias = slot.num_bias,
                       .penalties = CountsTokens(slot) ? 1 : 0,
                       .padding = 0};
      update.bias_begin = static_cast<int32_t>(biases.size());
      for (const auto& [token, value] : request.bias) biases.push_back({token, value});
      update.stop_begin = static_cast<int32_t>(stop_tokens.size());
      stop_tokens.insert(stop_tokens.end(), request.stops.begin(), request.stops.end());
      update.history_begin = static_cast<int32_t>(history.size());
      history.insert(history.end(), request.prompt.begin(), request.prompt.end());
      history.insert(history.end(), request.output.begin(), request.output.end());
      update.num_history = static_cast<int32_t>(history.size()) - update.history_begin;
      update.num_output = static_cast<int32_t>(request.output.size());
      update.last_token = -1;
      updates.push_back(update);
    }
    const DeviceArray<SlotUpdate> updates_d(updates);
    const DeviceArray<TokenBias> biases_d(biases);
    const DeviceArray<int32_t> stops_d(stop_tokens), history_d(history);
    EXPECT_EQ(UpdateSlots(table(), updates_d.data(), static_cast<int32_t>(rows), biases_d.data(),
                          stops_d.data(), history_d.data(), nullptr),
              cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << simt::LastRefusal();
  }
  [[nodiscard]] SlotTable table() const {
    return {slots.data(),  bias.data(), stops.data(),
            counts.data(), last.data(), static_cast<int32_t>(rows),
            kVocab};
  }
  size_t rows;
  DeviceArray<DeviceSlot> slots;
  DeviceArray<TokenBias> bias;
  DeviceArray<int32_t> stops;
  DeviceArray<uint32_t> counts;
  DeviceArray<int32_t> last;
};

TEST_P(SampleKernels, DrawsAreThoseOfTheSortedCandidates) {
  const std::vector<Request> requests = Requests();
  const DeviceSlots device(requests);
  const auto rows = static_cast<int32_t>(requests.size());
  std::vector<int32_t> slots, outputs, counts;
  for (int32_t r = 0; r < rows; ++r) {
    slots.push_back(requests[r].slot.slot);
    outputs.push_back(rows - 1 - r);  // output i is row rows - 1 - i
    counts.push_back(requests[rows - 1 - r].slot.num_output_tokens);
  }
  const DeviceArray<int32_t> slots_d(slots), outputs_d(outputs), counts_d(counts);
  DeviceBatch batch;
  batch.slots = slots_d.data();
  batch.output_rows = outputs_d.data();
  batch.num_output_tokens = counts_d.data();
  const DeviceTensor logits(rows, kVocab, LogitAt);
  const DeviceArray<float> scratch(size_t(rows) * kMaxSlotBias);
  const DeviceArray<SampleOut> out_d(requests.size());
  ASSERT_EQ(Sample(device.table(), batch, logits.tensor(), scratch.data(), out_d.data(), nullptr),
            cudaSuccess);
  const std::vector<SampleOut> out = out_d.Read();
  const std::vector<int32_t> last = device.last.Read();
  for (int32_t i = 0; i < rows; ++i) {
    const Request& request = requests[rows - 1 - i];
    std::vector<float> row;
    for (int token = 0; token < kVocab; ++token) row.push_back(LogitAt(i, token));
    const auto candidates = reference::Candidates(row, request.slot, counts[i]);
    const double draw =
        SampleDraw(request.slot.seed, request.slot.choice, static_cast<uint32_t>(counts[i]));
    EXPECT_EQ(out[i].token, reference::InverseCdf(candidates, draw)) << "request " << rows - 1 - i;
    EXPECT_EQ(last[request.slot.slot], out[i].token);
    if (request.slot.num_logprobs < 0) continue;
    const std::vector<double> logprobs = reference::LogSoftmax(row);
    EXPECT_NEAR(out[i].logprob, logprobs[out[i].token], 1e-5);
    ASSERT_EQ(out[i].num_top, request.slot.num_logprobs);
    const auto all = reference::Candidates(row, {}, 0);
    for (int k = 0; k < out[i].num_top; ++k) {
      EXPECT_EQ(out[i].top_tokens[k], all[k].token);
      EXPECT_NEAR(out[i].top_logprobs[k], logprobs[all[k].token], 1e-5);
    }
  }
}

TEST_P(SampleKernels, SlotsCountTheirTokens) {
  const std::vector<Request> requests = Requests();
  const DeviceSlots device(requests);
  const Request& request = requests[5];
  std::vector<uint32_t> expected(kVocab);
  for (const int32_t token : request.prompt) expected[token] |= 1;
  for (const int32_t token : request.output) expected[token] = (expected[token] + 2) | 1;
  std::vector<uint32_t> got(kVocab);
  ASSERT_EQ(cudaMemcpy(got.data(), device.counts.data() + size_t(request.slot.slot) * kVocab,
                       kVocab * 4, cudaMemcpyDeviceToHost),
            cudaSuccess);
  EXPECT_EQ(got, expected);
}

}  // namespace
}  // namespace sluice::cuda
