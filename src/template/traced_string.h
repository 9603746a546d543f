// A byte string that knows, byte range by byte range, who wrote it. What the client wrote can then
// never become a special token, however the template moved it about.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::jinja {

enum class Origin : uint8_t {
  kTemplate,  // the template's own literals, bos_token and eos_token
  kClient,    // the request's variables, and everything computed (numbers, repr, JSON punctuation)
};

class TracedString {
 public:
  TracedString() = default;
  TracedString(std::string bytes, Origin origin) : bytes_(std::move(bytes)), first_(origin) {}

  [[nodiscard]] std::string_view bytes() const { return bytes_; }
  [[nodiscard]] size_t size() const { return bytes_.size(); }
  [[nodiscard]] bool empty() const { return bytes_.empty(); }

  // Memory it holds, in bytes.
  [[nodiscard]] size_t Footprint() const {
    return sizeof(TracedString) + bytes_.size() + flips_.size() * sizeof(uint32_t);
  }

  [[nodiscard]] Origin OriginAt(size_t byte) const;
  [[nodiscard]] bool AllFrom(Origin origin) const {
    return empty() || (flips_.empty() && first_ == origin);
  }

  void Append(std::string_view bytes, Origin origin);
  void Append(const TracedString& more) { Append(more, 0, more.size()); }
  void Append(const TracedString& from, size_t begin, size_t end);  // bytes [begin, end) of `from`

  [[nodiscard]] TracedString Substr(size_t begin, size_t end) const;

  // visit(std::string_view bytes, Origin) for each maximal run of one origin, in order.
  template <typename Visit>
  void ForEachRun(Visit visit) const {
    VisitRuns(0, bytes_.size(), visit);
  }

 private:
  [[nodiscard]] size_t FirstFlipAfter(size_t byte) const;

  template <typename Visit>
  void VisitRuns(size_t begin, size_t end, Visit visit) const {
    size_t flip = FirstFlipAfter(begin);
    while (begin < end) {
      const size_t stop = flip < flips_.size() && flips_[flip] < end ? flips_[flip] : end;
      visit(std::string_view(bytes_).substr(begin, stop - begin), OriginOfRun(flip));
      begin = stop;
      ++flip;
    }
  }
  [[nodiscard]] Origin OriginOfRun(size_t num_flips_before) const {
    const bool same = num_flips_before % 2 == 0;
    return same == (first_ == Origin::kTemplate) ? Origin::kTemplate : Origin::kClient;
  }

  std::string bytes_;
  Origin first_ = Origin::kTemplate;
  std::vector<uint32_t>
      flips_;  // ascending offsets > 0 at which the origin changes; most strings have none
};

}  // namespace sluice::jinja
