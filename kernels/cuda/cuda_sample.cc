// Slots, sampling and what the host reads of CudaBackend.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "base/check.h"
#include "kernels/cuda/cuda_backend.h"

namespace sluice::cuda {

void CudaBackend::InitSlot(const SlotView& view) {
  if (view.slot < 0 || view.slot >= slots_.max_rows) {
    return Fail(
        absl::OutOfRangeError(fmt::format("slot is {}; there are {}", view.slot, slots_.max_rows)));
  }
  if (view.num_bias > kMaxSlotBias || view.num_stop_tokens > kMaxSlotStops) {
    return Fail(absl::InvalidArgumentError(
        fmt::format("{} biases and {} stop tokens; the CUDA backend allows {} and {}",
                    view.num_bias, view.num_stop_tokens, kMaxSlotBias, kMaxSlotStops)));
  }
  const auto valid = [this](int32_t token) { return token >= 0 && token < slots_.vocab; };
  SlotUpdate update{.slot = view.slot,
                    .values = {.temperature = view.temperature,
                               .top_p = view.top_p,
                               .min_p = view.min_p,
                               .top_k = view.top_k,
                               .repetition_penalty = view.repetition_penalty,
                               .presence_penalty = view.presence_penalty,
                               .frequency_penalty = view.frequency_penalty,
                               .choice = view.choice,
                               .seed = view.seed,
                               .min_tokens = view.min_tokens,
                               .num_logprobs = view.num_logprobs},
                    .bias_begin = static_cast<int32_t>(update_bias_.size()),
                    .stop_begin = static_cast<int32_t>(update_stops_.size()),
                    .history_begin = static_cast<int32_t>(update_history_.size()),
                    .last_token = -1};
  for (int32_t i = 0; i < view.num_bias; ++i) {
    if (valid(view.bias[i].first))
      update_bias_.push_back({view.bias[i].first, view.bias[i].second});
  }
  std::copy_if(view.stop_tokens, view.stop_tokens + view.num_stop_tokens,
               std::back_inserter(update_stops_), valid);
  update.values.num_bias = static_cast<int32_t>(update_bias_.size()) - update.bias_begin;
  update.values.num_stop_tokens = static_cast<int32_t>(update_stops_.size()) - update.stop_begin;
  const bool penalties =
      view.repetition_penalty != 1 || view.presence_penalty != 0 || view.frequency_penalty != 0;
  update.values.penalties = penalties ? 1 : 0;
  if (penalties) {
    std::copy_if(view.prompt_tokens, view.prompt_tokens + view.num_prompt_tokens,
                 std::back_inserter(update_history_), valid);
    const size_t outputs = update_history_.size();
    std::copy_if(view.output_tokens, view.output_tokens + view.num_output_tokens,
                 std::back_inserter(update_history_), valid);
    update.num_output = static_cast<int32_t>(update_history_.size() - outputs);
    update.num_history = static_cast<int32_t>(update_history_.size()) - update.history_begin;
  }
  if (view.num_output_tokens > 0) {
    const int32_t last = view.output_tokens[view.num_output_tokens - 1];
    if (valid(last)) update.last_token = last;
  }
  updates_.push_back(update);
}

bool CudaBackend::GrowUpdates(int64_t bytes) {
  if (bytes <= update_memory_.size()) return true;
  if (!Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize")) return false;
  absl::Status status = Grow(update_memory_, bytes);
  if (status.ok()) return true;
  Fail(std::move(status));
  return false;
}

void CudaBackend::Sample(Tensor logits, std::span<const int32_t> num_output_tokens,
                         std::span<SampleOut> out) {
  SLUICE_CHECK(logits.cols == slots_.vocab && logits.rows == batch_.num_outputs &&
                   out.size() == num_output_tokens.size() &&
                   static_cast<int32_t>(out.size()) == logits.rows,
               "{} {} {}", logits.cols, logits.rows, out.size());
  if (mode_ == Mode::kCapture) EndCapture();
  mode_ = Mode::kPlain;
  const auto bytes_of = [](const auto& v) {
    return static_cast<int64_t>(v.size() * sizeof(v[0]) + 15) / 16 * 16;
  };
  if (!updates_.empty()) {
    const int64_t bytes = bytes_of(updates_) + bytes_of(update_bias_) + bytes_of(update_stops_) +
                          bytes_of(update_history_);
    if (!GrowUpdates(bytes)) return;
    uint8_t* at = update_memory_.data();
    const auto upload = [&](const auto& v) {
      using T = std::remove_cvref_t<decltype(v[0])>;
      UploadTo(at, v.data(), static_cast<int64_t>(v.size() * sizeof(T)));
      const auto* placed = reinterpret_cast<const T*>(at);
      at += bytes_of(v);
      return placed;
    };
    const SlotUpdate* updates = upload(updates_);
    const TokenBias* bias = upload(update_bias_);
    const int32_t* stops = upload(update_stops_);
    const int32_t* history = upload(update_history_);
    Enqueue("update_slots", [&] {
      return UpdateSlots(slots_, updates, static_cast<int32_t>(updates_.size()), bias, stops,
                         history, stream_);
    });
  }
  UploadTo(num_output_tokens_, num_output_tokens.data(),
           static_cast<int64_t>(num_output_tokens.size_bytes()));
  Enqueue("sample", [&] {
    return cuda::Sample(slots_, device_batch_, logits, sample_scratch_, sample_out_, stream_);
  });
  const Tensor results{reinterpret_cast<float*>(sample_out_), 1,
                       static_cast<int32_t>(out.size_bytes() / sizeof(float)),
                       static_cast<int32_t>(out.size_bytes() / sizeof(float))};
  Read(results, reinterpret_cast<float*>(out.data()));
}

void CudaBackend::Read(Tensor x, float* out) {
  if (mode_ == Mode::kCapture) EndCapture();
  mode_ = Mode::kPlain;
  Step& s = step();
  if (!s.status.ok() || x.rows == 0) return;
  const int64_t row_bytes = int64_t{x.cols} * static_cast<int64_t>(sizeof(float));
  const int64_t bytes = row_bytes * x.rows;
  if (s.results_used + bytes > s.results.size()) {
    SLUICE_CHECK(s.results_used == 0 || s.results.size() > 0, "{}", s.results_used);
    if (s.results_used > 0) {
      return Fail(absl::ResourceExhaustedError("more is read back in a step than in its first"));
    }
    if (absl::Status status = Grow(s.results, 2 * bytes + (1 << 16)); !status.ok())
      return Fail(std::move(status));
  }
  uint8_t* to = s.results.data() + s.results_used;
  s.copies.push_back({out, s.results_used, bytes});
  s.results_used += bytes;
  if (x.stride == x.cols) {
    Check(cudaMemcpyAsync(to, x.data, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
          "reading a step's results");
    return;
  }
  for (int32_t r = 0; r < x.rows; ++r) {
    Check(cudaMemcpyAsync(to + r * row_bytes, x.row(r), static_cast<size_t>(row_bytes),
                          cudaMemcpyDeviceToHost, stream_),
          "reading a step's results");
  }
}

}  // namespace sluice::cuda
