// A run's progress in a terminal: a few lines that are drawn over once a second.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/serve/runner.h"

namespace sluice::load {

class ProgressView {
 public:
  // `seconds`: how long the run is to take, 0 if that is not known.
  ProgressView(std::FILE* out, double seconds) : out_(out), seconds_(seconds) {}

  void Show(const Progress& progress);
  // Removes the lines again.
  void Clear();

  // The lines for one moment.
  static std::vector<std::string> Lines(const Progress& progress, double seconds);

 private:
  std::FILE* const out_;
  const double seconds_;
  size_t drawn_ = 0;
};

}  // namespace sluice::load
