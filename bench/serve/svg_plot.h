// Line plots as inline SVG, drawn without any library. Colours are CSS classes of the page around.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sluice::load {

struct PlotSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;  // by ascending x
  int colour = 0;                                 // class s0, s1, ...
  bool area = false;                              // filled down to the axis
  bool dashed = false;
  std::vector<std::string> dots;  // one a point: drawn as dots with these texts
};
struct PlotMark {  // a dashed line across
  double at = 0;
  bool vertical = true;
  std::string label;
};
struct Plot {
  std::string title, x_label, y_label;
  bool log_x = false, log_y = false;
  bool zero_y = true;  // a linear y axis begins at 0
  double max_y = 0;    // 0: by the data
  std::vector<PlotSeries> series;
  std::vector<PlotMark> marks;
};

// A <figure> with title, legend and SVG. Without any point it says so instead.
std::string SvgFigure(const Plot& plot);

std::string EscapeHtml(const std::string& text);

// 1, 2 or 5 times a power of ten, about `count` of them in [low, high]; on a log axis of
// more than a decade 1, 2 and 5 of each, or only 1 if there are many.
std::vector<double> Ticks(double low, double high, bool log, int count);
// With as few digits as tell ticks apart: 1500000 is 1.5M.
std::string TickText(double value);

}  // namespace sluice::load
