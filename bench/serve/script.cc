#include "bench/serve/script.h"

#include <algorithm>

#include "base/check.h"

namespace sluice::load {

Script::Script(const std::vector<std::string>& pieces) {
  for (const std::string& piece : pieces) {
    begins_.push_back(circle_.size());
    circle_ += piece;
  }
  begins_.push_back(circle_.size());
  SLUICE_CHECK(!circle_.empty());
}

ScriptCursor::ScriptCursor(const Script* script, uint64_t seed) : script_(script) {
  if (script == nullptr) return;
  first_ = seed % script->num_tokens();
  at_ = script->begins_[first_];
}

bool ScriptCursor::Take(std::string_view text) {
  if (script_ == nullptr || !right_) return right_;
  taken_bytes_ += text.size();
  const std::string& circle = script_->circle_;
  while (!text.empty()) {
    if (at_ == circle.size()) at_ = 0;
    const size_t part = std::min(text.size(), circle.size() - at_);
    if (circle.compare(at_, part, text.substr(0, part)) != 0) return right_ = false;
    at_ += part;
    text.remove_prefix(part);
  }
  return true;
}

bool ScriptCursor::IsWhole(int64_t num_tokens) const {
  if (script_ == nullptr) return true;
  const uint64_t n = script_->num_tokens(), end = first_ + static_cast<uint64_t>(num_tokens);
  const uint64_t bytes =
      end / n * script_->circle_.size() + script_->begins_[end % n] - script_->begins_[first_];
  return right_ && taken_bytes_ == bytes;
}

}  // namespace sluice::load
