#include "bench/serve/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

namespace sluice::load {
namespace {

constexpr double kWidth = 560, kHeight = 290;
constexpr double kLeft = 58, kRight = 14, kTop = 12, kBottom = 44;

// Maps values of one axis to pixels.
struct Scale {
  double low = 0, high = 1;
  double from = 0, to = 1;  // pixels
  bool log = false;

  [[nodiscard]] double operator()(double value) const {
    const double v = Bend(std::clamp(value, low, high));
    return from + (v - Bend(low)) / (Bend(high) - Bend(low)) * (to - from);
  }
  [[nodiscard]] double Bend(double v) const { return log ? std::log10(v) : v; }
};

Scale MakeScale(double low, double high, bool log, double from, double to) {
  if (log) {
    low = std::max(low, 1e-6);
    high = std::max(high, low * 1.01);
    if (high < low * 3) {  // a narrow one still gets ticks
      low /= 1.8;
      high *= 1.8;
    }
  } else if (high <= low) {
    high = low + 1;
  }
  return {.low = low, .high = high, .from = from, .to = to, .log = log};
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void Add(double v, bool log) {
    if (log && v <= 0) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  [[nodiscard]] bool empty() const { return low > high; }
};

void AppendAxes(std::string& svg, const Plot& plot, const Scale& x, const Scale& y) {
  const auto out = std::back_inserter(svg);
  for (const double tick : Ticks(y.low, y.high, y.log, 5)) {
    fmt::format_to(out, R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)", kLeft,
                   kWidth - kRight, y(tick), y(tick));
    fmt::format_to(out, R"(<text x="{}" y="{:.1f}" text-anchor="end">{}</text>)", kLeft - 6,
                   y(tick) + 4, TickText(tick));
  }
  for (const double tick : Ticks(x.low, x.high, x.log, 7)) {
    fmt::format_to(out, R"(<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>)", x(tick),
                   x(tick), kTop, kHeight - kBottom);
    fmt::format_to(out, R"(<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", x(tick),
                   kHeight - kBottom + 16, TickText(tick));
  }
  fmt::format_to(out, R"(<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>)", kLeft,
                 kWidth - kRight, kHeight - kBottom, kHeight - kBottom);
  fmt::format_to(out, R"(<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>)",
                 (kLeft + kWidth - kRight) / 2, kHeight - 8, EscapeHtml(plot.x_label));
  fmt::format_to(
      out,
      R"svg(<text class="label" transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>)svg",
      (kTop + kHeight - kBottom) / 2, EscapeHtml(plot.y_label));
}

void AppendSeries(std::string& svg, const PlotSeries& series, const Scale& x, const Scale& y) {
  const auto out = std::back_inserter(svg);
  std::string path;
  for (const auto& [px, py] : series.points) {
    if ((x.log && px <= 0) || (y.log && py <= 0)) continue;
    fmt::format_to(std::back_inserter(path), "{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(px),
                   y(py));
  }
  if (path.empty()) return;
  if (series.area)
    fmt::format_to(out, R"(<path class="area s{}" d="{}L{:.1f} {} L{:.1f} {}Z"/>)", series.colour,
                   path, x(series.points.back().first), kHeight - kBottom,
                   x(series.points.front().first), kHeight - kBottom);
  fmt::format_to(out, R"(<path class="line s{}{}" d="{}"/>)", series.colour,
                 series.dashed ? " dashed" : "", path);
  for (size_t i = 0; i < series.dots.size() && i < series.points.size(); ++i) {
    fmt::format_to(
        out,
        R"(<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>)",
        series.colour, x(series.points[i].first), y(series.points[i].second),
        EscapeHtml(series.dots[i]));
  }
}

void AppendMark(std::string& svg, const PlotMark& mark, const Scale& x, const Scale& y) {
  const Scale& along = mark.vertical ? x : y;
  if (mark.at < along.low || mark.at > along.high) return;
  const double at = along(mark.at);
  const double x1 = mark.vertical ? at : kLeft, x2 = mark.vertical ? at : kWidth - kRight;
  const double y1 = mark.vertical ? kTop : at, y2 = mark.vertical ? kHeight - kBottom : at;
  const auto out = std::back_inserter(svg);
  fmt::format_to(out, R"(<line class="mark" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>)", x1,
                 x2, y1, y2);
  const bool left = mark.vertical && at > kWidth * 0.8;
  fmt::format_to(out, R"(<text class="mark" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>)",
                 mark.vertical ? at + (left ? -4 : 4) : kWidth - kRight - 4,
                 mark.vertical ? kTop + 10 : at - 4, mark.vertical && !left ? "start" : "end",
                 EscapeHtml(mark.label));
}

std::string Legend(const Plot& plot) {
  if (plot.series.size() < 2) return "";
  std::string legend = "<div class=\"legend\">";
  for (const PlotSeries& series : plot.series)
    legend += fmt::format("<span><i class=\"s{}{}\"></i>{}</span>", series.colour,
                          series.dashed ? " dashed" : "", EscapeHtml(series.name));
  return legend + "</div>";
}

}  // namespace

std::string EscapeHtml(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::vector<double> Ticks(double low, double high, bool log, int count) {
  std::vector<double> ticks;
  const double slack = 1e-9;
  if (log && high / low >= 10) {
    const int first = static_cast<int>(std::floor(std::log10(low) + slack));
    const int last = static_cast<int>(std::ceil(std::log10(high) - slack));
    const bool all = last - first <= count / 2;
    for (int decade = first; decade <= last; ++decade) {
      for (const double step : {1.0, 2.0, 5.0}) {
        const double tick = step * std::pow(10, decade);
        if ((all || step == 1) && tick >= low * (1 - slack) && tick <= high * (1 + slack))
          ticks.push_back(tick);
      }
    }
    return ticks;
  }
  const double rough = (high - low) / count, power = std::pow(10, std::floor(std::log10(rough)));
  double step = power * 10;
  for (const double nice : {1.0, 2.0, 5.0}) {
    if (rough > nice * power * (1 + slack)) continue;
    step = nice * power;
    break;
  }
  const auto begin = static_cast<int64_t>(std::ceil(low / step - slack));
  const auto end = static_cast<int64_t>(std::floor(high / step + slack));
  for (int64_t i = begin; i <= end; ++i) ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

std::string TickText(double value) {
  const double size = std::abs(value);
  if (size >= 1e9) return fmt::format("{:.3g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.3g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.3g}k", value / 1e3);
  return fmt::format("{:.4g}", value);
}

std::string SvgFigure(const Plot& plot) {
  Range x_range, y_range;
  for (const PlotSeries& series : plot.series) {
    for (const auto& [x, y] : series.points) {
      x_range.Add(x, plot.log_x);
      y_range.Add(y, plot.log_y);
    }
  }
  std::string figure =
      fmt::format("<figure><figcaption>{}</figcaption>", EscapeHtml(plot.title)) + Legend(plot);
  if (x_range.empty() || y_range.empty()) return figure + "<p class=\"none\">no data</p></figure>";
  if (plot.zero_y && !plot.log_y) y_range.low = 0;
  double high_y = plot.max_y > 0 ? plot.max_y : y_range.high;
  if (plot.max_y <= 0 && !plot.log_y) high_y += (high_y - y_range.low) * 0.05;
  const Scale x = MakeScale(x_range.low, x_range.high, plot.log_x, kLeft, kWidth - kRight);
  const Scale y = MakeScale(y_range.low, high_y, plot.log_y, kHeight - kBottom, kTop);
  figure += fmt::format(R"(<svg viewBox="0 0 {} {}" role="img" aria-label="{}">)", kWidth, kHeight,
                        EscapeHtml(plot.title));
  AppendAxes(figure, plot, x, y);
  for (const PlotSeries& series : plot.series) AppendSeries(figure, series, x, y);
  for (const PlotMark& mark : plot.marks) AppendMark(figure, mark, x, y);
  return figure + "</svg></figure>";
}

}  // namespace sluice::load
