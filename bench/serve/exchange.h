// One request and what came of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bench/serve/conversation.h"
#include "bench/serve/http_response.h"
#include "bench/serve/script.h"

namespace sluice::load {

// Times are nanoseconds of CLOCK_MONOTONIC; 0: has not happened.
struct Exchange {
  int64_t id = 0;
  Conversation conversation;
  uint64_t seed = 0;
  std::string body;   // what is sent
  int user = -1;      // closed loop: who asks
  bool slow = false;  // read with pauses; kept out of the latencies
  bool keep_answer = false;
  int64_t connection = -1;  // the transport's, which carries it
  bool retried = false;     // a kept connection had closed in the meantime

  int64_t scheduled_ns = 0;  // latencies count from here
  int64_t sent_ns = 0;
  int64_t first_ns = 0;  // first piece of output
  int64_t last_ns = 0;   // last piece so far
  int64_t end_ns = 0;

  int64_t chunks = 0;         // pieces of output
  int64_t window_chunks = 0;  // those inside the measured window
  int64_t max_gap_ns = 0;     // between two pieces
  int64_t prompt_tokens = -1, output_tokens = -1, cached_tokens = -1;  // -1: not told
  std::string finish_reason;
  bool saw_done = false;
  std::string answer;  // if keep_answer
  ScriptCursor script;

  ErrorKind error;      // "": none
  std::string message;  // what the server said about it, cut at 200 bytes
};

}  // namespace sluice::load
