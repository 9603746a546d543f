#include "template/traced_string.h"

#include <algorithm>

namespace sluice::jinja {

size_t TracedString::FirstFlipAfter(size_t byte) const {
  if (flips_.empty()) return 0;
  return static_cast<size_t>(std::upper_bound(flips_.begin(), flips_.end(), byte) - flips_.begin());
}

Origin TracedString::OriginAt(size_t byte) const { return OriginOfRun(FirstFlipAfter(byte)); }

void TracedString::Append(std::string_view bytes, Origin origin) {
  if (bytes.empty()) return;
  if (bytes_.empty()) {
    first_ = origin;
  } else if (OriginOfRun(flips_.size()) != origin) {
    flips_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
  bytes_ += bytes;
}

void TracedString::Append(const TracedString& from, size_t begin, size_t end) {
  from.VisitRuns(begin, end, [this](std::string_view run, Origin origin) { Append(run, origin); });
}

TracedString TracedString::Substr(size_t begin, size_t end) const {
  TracedString out;
  out.Append(*this, begin, end);
  return out;
}

}  // namespace sluice::jinja
