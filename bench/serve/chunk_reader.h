// What one event of an OpenAI-compatible stream says.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::load {

struct StreamChunk {
  std::string_view text;  // of the first choice; valid until the next Read
  bool has_text = false;  // a piece of output, reasoning included; false for the role's chunk
  bool done = false;      // [DONE]
  bool failed = false;    // an error object
  bool malformed = false;
  std::string_view finish_reason;  // "" while it goes on
  int64_t prompt_tokens = -1;      // usage, where the chunk has it
  int64_t output_tokens = -1;
  int64_t cached_tokens = -1;
};

// Reads the events of one stream. The chunks of a stream differ in nothing but their text, so only
// the first is parsed: for the others it is enough that all bytes around the text are the same.
// Whatever differs in any other byte is parsed in full.
class ChunkReader {
 public:
  StreamChunk Read(std::string_view event);
  void Reset();
  // How many events were parsed in full.
  [[nodiscard]] int64_t num_parsed() const { return num_parsed_; }

 private:
  bool ReadLikeTheLast(std::string_view event, StreamChunk& chunk);
  void Parse(std::string_view event, StreamChunk& chunk);
  void Remember(std::string_view event);

  std::string before_, after_;  // around the text; empty: nothing to compare with
  std::string text_, reason_;
  int64_t num_parsed_ = 0;
};

}  // namespace sluice::load
