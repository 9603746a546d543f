// What the op tests share: the forms this CPU runs, random activations, and a step's batch built
// row by row.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops.h"

namespace sluice {

// The forms this CPU runs, scalar first.
std::vector<CpuIsa> CpuForms();

// A form with a number of threads: bits must not depend on it.
struct CpuSetting {
  CpuIsa isa;
  int32_t threads;
};
// Every form with 1 and 2 threads; scalar with one thread first.
std::vector<CpuSetting> CpuSettings();
std::string ToString(const CpuSetting& setting);
// Fails the test and ends the process if the backend cannot be made.
std::unique_ptr<Ops> MakeCpuOps(const CpuSetting& setting);

// Normal variates.
std::vector<float> RandomFloats(size_t count, uint32_t seed, float deviation = 1);

// A row-major tensor that owns its floats.
struct Matrix {
  Matrix(int32_t rows, int32_t cols)
      : rows(rows), cols(cols), data(static_cast<size_t>(rows) * cols, -1.0F) {}
  Matrix(int32_t rows, int32_t cols, uint32_t seed) : Matrix(rows, cols) {
    data = RandomFloats(data.size(), seed);
  }

  [[nodiscard]] Tensor view() { return {data.data(), rows, cols, cols}; }
  [[nodiscard]] std::span<float> row(int32_t r) {
    return std::span(data).subspan(static_cast<size_t>(r) * cols, static_cast<size_t>(cols));
  }

  int32_t rows, cols;
  std::vector<float> data;
};

// The arrays behind a BatchView.
class StepBatch {
 public:
  // `num_tokens` new tokens on top of `num_cached`, KV in `blocks`.
  void AddRow(int32_t num_tokens, int32_t num_cached, std::span<const int32_t> blocks,
              int32_t slot = 0, bool output = true);
  // One a row.
  void SetAdapters(std::span<const int32_t> adapters) {
    adapters_.assign(adapters.begin(), adapters.end());
  }
  void SetTokens(std::span<const int32_t> tokens) { tokens_.assign(tokens.begin(), tokens.end()); }
  // Valid until the next change.
  [[nodiscard]] BatchView view() const;
  [[nodiscard]] std::span<const int32_t> positions() const { return positions_; }

 private:
  std::vector<int32_t> tokens_, positions_, row_begin_{0}, context_len_, blocks_, block_begin_{0},
      slots_, output_rows_, adapters_;
};

}  // namespace sluice
