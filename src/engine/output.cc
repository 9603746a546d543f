#include "engine/output.h"

#include <algorithm>
#include <utility>

namespace sluice {

bool ChoiceOutput::Take(const SampledToken& token) {
  num_tokens_++;
  std::string text;
  if (!(options_.skip_special_tokens && tokenizer_.IsSpecial(token.token))) {
    text = utf8_.Append(tokenizer_.TokenBytes(token.token));
  }
  const size_t old_end = released_ + held_.size();
  held_ += text;
  const size_t end = released_ + held_.size();
  pending_.push_back({token, end + (utf8_.num_held() > 0 ? 1 : 0)});
  if (num_tokens_ < options_.min_tokens) {
    search_from_ = end;
    return false;
  }
  // The earliest stop string that the new bytes complete; of several with one beginning, the
  // longest.
  size_t best = std::string::npos, best_size = 0;
  for (const Text& stop : options_.stop) {
    const std::string& s = stop.Reveal();
    const size_t reach = old_end >= s.size() ? old_end - s.size() + 1 : 0;
    const size_t from = std::max({reach, search_from_, released_});
    const size_t at = held_.find(s, from - released_);
    if (at < best || (at == best && at != std::string::npos && s.size() > best_size)) {
      best = at;
      best_size = s.size();
    }
  }
  if (best == std::string::npos) return false;
  stop_begin_ = released_ + best;
  stop_end_ = stop_begin_ + best_size;
  return true;
}

size_t ChoiceOutput::HoldLength() const {
  size_t hold = 0;
  const size_t usable = std::min(held_.size(), released_ + held_.size() - search_from_);
  for (const Text& stop : options_.stop) {
    const std::string& s = stop.Reveal();
    for (size_t n = std::min(s.size() - 1, usable); n > hold; n--) {
      if (held_.compare(held_.size() - n, n, s, 0, n) == 0) {
        hold = n;
        break;
      }
    }
  }
  return hold;
}

// Moves the pending tokens that end at or before `end`, and the text up to the last of them, into
// the piece.
void ChoiceOutput::Release(size_t end, Piece* piece) {
  size_t text_end = released_;
  while (pending_begin_ < pending_.size() && pending_[pending_begin_].end <= end) {
    const PendingToken& token = pending_[pending_begin_++];
    text_end = token.end;
    piece->tokens.push_back(token.sampled.token);
    if (options_.logprobs) piece->logprobs.push_back(MakeLogprob(token.sampled));
    num_released_++;
  }
  // At least half of it is released before the rest moves, so that a long hold costs no more.
  if (2 * pending_begin_ >= pending_.size()) {
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(pending_begin_));
    pending_begin_ = 0;
  }
  piece->content.Append(Text(held_.substr(0, text_end - released_)));
  held_.erase(0, text_end - released_);
  released_ = text_end;
}

ChoiceOutput::Piece ChoiceOutput::Append(std::span<const SampledToken> tokens) {
  Piece piece;
  piece.index = num_released_;
  for (const SampledToken& token : tokens) {
    if (!Take(token)) continue;
    const size_t end = options_.include_stop_str_in_output ? stop_end_ : stop_begin_;
    Release(end, &piece);
    // The token that straddles the end is not shown, the text before the stop string is.
    piece.content.Append(Text(held_.substr(0, end - released_)));
    released_ = end;
    held_.clear();
    pending_.clear();
    pending_begin_ = 0;
    piece.stopped = true;
    piece.num_kept_tokens = num_tokens_;
    return piece;
  }
  const bool waits = num_released_ > 0 && pending_.size() - pending_begin_ < options_.interval;
  if (!waits) Release(released_ + held_.size() - HoldLength(), &piece);
  return piece;
}

ChoiceOutput::Piece ChoiceOutput::Close(const SampledToken* stop_token) {
  Piece piece;
  piece.index = num_released_;
  if (stop_token) {
    if (options_.include_stop_str_in_output) {
      Take(*stop_token);
    } else {
      num_tokens_++;
    }
  }
  held_ += utf8_.Flush();
  const size_t end = released_ + held_.size();
  for (PendingToken& token : pending_) token.end = std::min(token.end, end);
  if (!pending_.empty()) pending_.back().end = end;
  Release(end, &piece);
  return piece;
}

void ChoiceOutput::Resume(std::span<const TokenId> tokens) {
  for (const TokenId token : tokens) Take({.token = token});
  released_ += held_.size();
  num_released_ += static_cast<int32_t>(pending_.size());
  held_.clear();
  pending_.clear();
}

TokenLogprob ChoiceOutput::MakeLogprob(const SampledToken& sampled) const {
  TokenLogprob out;
  out.token = sampled.token;
  out.bytes = Text(std::string(tokenizer_.TokenBytes(sampled.token)));
  out.logprob = sampled.logprob;
  for (const auto& [token, logprob] : sampled.top) {
    out.top.push_back({token, Text(std::string(tokenizer_.TokenBytes(token))), logprob});
  }
  return out;
}

}  // namespace sluice
