#include "bench/serve/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace sluice::load {
namespace {

// The last seconds' chunks as bars of eight heights.
std::string Graph(const std::vector<TimelineBin>& timeline) {
  constexpr std::array<const char*, 9> kBars = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  constexpr size_t kSeconds = 40;
  // The second that is still running would look like a drop.
  const size_t end = timeline.empty() ? 0 : timeline.size() - 1;
  const size_t begin = end > kSeconds ? end - kSeconds : 0;
  int64_t most = 1;
  for (size_t i = begin; i < end; ++i) most = std::max(most, timeline[i].chunks);
  std::string graph;
  for (size_t i = begin; i < end; ++i)
    graph += kBars[static_cast<size_t>((timeline[i].chunks * 8 + most - 1) / most)];
  return graph;
}

std::string Latency(const char* name, const Histogram& histogram) {
  return fmt::format("{} {:.1f} / {:.1f} ms", name,
                     static_cast<double>(histogram.Quantile(0.5)) / 1e6,
                     static_cast<double>(histogram.Quantile(0.99)) / 1e6);
}

}  // namespace

std::vector<std::string> ProgressView::Lines(const Progress& progress, double seconds) {
  const Measurement& m = *progress.measured;
  const std::vector<TimelineBin>& timeline = m.timeline;
  const int64_t last = timeline.size() < 2 ? 0 : timeline[timeline.size() - 2].chunks;
  int64_t failed = 0;
  for (const auto& [kind, error] : m.errors) failed += error.count;
  std::string clock = fmt::format("{:.0f} s", progress.seconds);
  if (seconds > 0) clock += fmt::format(" of {:.0f} s", seconds);
  std::string waiting;
  if (progress.waiting > 0) waiting = fmt::format(", {} waiting", progress.waiting);
  return {
      fmt::format("{}  {} sent, {} in flight{}, {} done, {} failed", clock, m.all_started,
                  progress.in_flight, waiting, m.all_ended, failed),
      fmt::format("p50 / p99: {}, {}, {}", Latency("TTFT", m.ttft), Latency("ITL", m.itl),
                  Latency("e2e", m.e2e)),
      fmt::format("{} chunks/s {}", last, Graph(timeline)),
  };
}

void ProgressView::Show(const Progress& progress) {
  const std::vector<std::string> lines = Lines(progress, seconds_);
  std::string text;
  if (drawn_ > 0) text += fmt::format("\x1b[{}A", drawn_);
  for (const std::string& line : lines) text += "\r\x1b[2K" + line + "\n";
  drawn_ = lines.size();
  std::fputs(text.c_str(), out_);
  std::fflush(out_);
}

void ProgressView::Clear() {
  if (drawn_ > 0) std::fputs(fmt::format("\x1b[{}A\x1b[J", drawn_).c_str(), out_);
  std::fflush(out_);
  drawn_ = 0;
}

}  // namespace sluice::load
