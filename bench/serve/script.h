// The known output of the simulated backend: a text of n tokens in a circle, begun where the seed
// says. Each stream's text is compared as it comes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::load {

// Token i of a stream with seed s and choice 0 is pieces[(s + i) mod n].
class Script {
 public:
  explicit Script(const std::vector<std::string>& pieces);

  [[nodiscard]] uint64_t num_tokens() const { return begins_.size() - 1; }

 private:
  friend class ScriptCursor;
  std::string circle_;          // all pieces
  std::vector<size_t> begins_;  // of each piece, and the end
};

// How far one stream has come. Without a script everything is right.
class ScriptCursor {
 public:
  ScriptCursor() = default;
  ScriptCursor(const Script* script, uint64_t seed);

  // Compares the next piece of output. False from the first wrong byte on.
  bool Take(std::string_view text);
  // Whether exactly `num_tokens` tokens have been taken, all of them right.
  [[nodiscard]] bool IsWhole(int64_t num_tokens) const;

 private:
  const Script* script_ = nullptr;
  uint64_t first_ = 0;  // token
  size_t at_ = 0;       // byte of the circle
  uint64_t taken_bytes_ = 0;
  bool right_ = true;
};

}  // namespace sluice::load
