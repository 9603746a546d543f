// Everything a run of `sluice bench serve` can be told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/serve/arrivals.h"
#include "bench/serve/conversation.h"
#include "bench/serve/measurement.h"
#include "bench/serve/socket.h"

namespace sluice::load {

struct LoadOptions {
  std::string url = "http://127.0.0.1:8000";
  std::string protocol = "openai";  // openai, grpc, kserve
  std::string endpoint = "chat";    // openai: chat, completions
  bool stream = true;               // kserve: answers as they are made
  std::string model;                // "": the first that the server lists
  TlsOptions tls;
  std::string api_key;     // "": none
  std::string extra_body;  // a JSON object whose fields are added to each request (kserve: its
                           // sampling_parameters)

  int64_t concurrency = 0;  // above 0: closed loop of so many users
  double think_seconds = 0;
  ArrivalOptions arrivals;  // open loop
  PromptOptions prompts;
  double temperature = 0;
  bool ignore_eos = true;
  bool seed_each = true;  // send a seed with each request
  bool check_script = false;

  double warmup_seconds = 0;
  double duration_seconds = 30;  // warm-up included; 0: until `requests` have ended
  int64_t requests = 0;          // at most; 0: no limit
  double timeout_seconds = 120;  // of a request
  double drain_seconds = 30;     // for those still running at the end
  int64_t max_connections = 4096;
  int64_t grpc_connections = 16;
  int64_t grpc_port = 8001;      // of the URL's host; everything but the calls asks the URL itself
  bool new_connections = false;  // one a request
  double connection_rate = 0;    // more that ask GET /livez and go, a second
  int64_t idle_connections = 0;
  double slow_fraction = 0;  // of requests: reads a little, then pauses
  double slow_pause_seconds = 1;

  Slo slo;
  uint64_t seed = 0;
  int64_t server_pid = 0;  // whose CPU time is taken; 0: unknown
};

}  // namespace sluice::load
