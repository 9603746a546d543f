// Every setting of a server. Field names are the flags (--http-port), the TOML keys (http-port)
// and, upper-cased after SLUICE_, the environment variables (SLUICE_HTTP_PORT);
// src/apps/settings.cc holds the one table with range and help.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

struct Config {
  // Model
  std::string model;                     // path of a GGUF file or a Hugging Face folder
  std::string served_model_name;         // empty: from the file or folder
  std::string quantize;                  // empty | q8_0 | q4_0 | q4_1: round float weights at load
  std::vector<std::string> model_alias;  // further names
  std::string models;                    // TOML file of several models, in place of `model`
  std::string model_dir;                 // models may be loaded from below it while the server runs
  std::string embedding_pooling;         // see --help: a decoder model gives vectors, not tokens
  int32_t max_model_len = 0;  // tokens; 0: what the model allows, as far as KV memory holds it
  // Backend
  std::string backend = "auto";      // auto | cpu | cuda | sim
  std::string sim_device;            // of sim: a built-in name or a TOML file; empty: h100
  std::string model_shape;           // of sim: the same; empty: the model's own sizes
  int32_t gpu_device = 0;            // as the driver numbers them
  int32_t tensor_parallel_size = 1;  // CUDA devices, from gpu_device on, that share each model
  double gpu_memory_fraction = 0.9;  // of the device's memory, for everything
  bool deterministic = false;  // CUDA: a row's bits do not depend on the batch; the CPU's never do
  std::string cpu_isa = "auto";  // auto | avx512 | avx2 | scalar
  int32_t threads = 0;           // kernel threads; 0: one a core
  int64_t kv_cache_mib = 0;  // 0: what the device, or a quarter of what the CPU has left; at most
                             // what max_rows can use
  std::string kv_cache_dtype = "auto";  // auto | f16 | bf16 | fp8 | int8; auto: f16
  // Scheduler
  int32_t max_rows = 32;
  int32_t max_step_tokens = 512;
  int32_t max_waiting_requests = 256;
  int64_t max_waiting_tokens = 1 << 20;
  double max_wait_s = 30;         // estimated; a request that would wait longer is refused; 0: any
  double priority_ageing_s = 60;  // of waiting that is worth one step of priority; 0: none is
  bool prefix_cache = true;
  // Front ends
  std::string host = "127.0.0.1";
  int32_t http_port = 8000;             // 0: a free one, named in the ready line
  int32_t grpc_port = 8001;             // 0: a free one; -1: no gRPC
  std::string grpc_transport = "grpc";  // grpc | nghttp2
  int32_t admin_port = -1;              // loopback only; -1: none
  bool admin_only_metrics = false;      // /metrics and health only on the admin port
  int32_t io_threads = 1;
  bool io_uring = true;  // where the kernel allows it
  int32_t prepare_threads = 1;
  int32_t max_connections = 4096;
  int64_t max_body_bytes = 16 << 20;
  int64_t max_header_bytes = 16 << 10;
  int32_t max_json_depth = 32;
  double read_timeout_s = 30;     // a whole request, from its first byte
  double idle_timeout_s = 120;    // a kept-alive connection between requests
  double write_timeout_s = 30;    // a client that takes nothing
  double default_deadline_s = 0;  // of a request that names none; 0: none
  // Security
  std::string api_keys_file;      // lines "name sha256-hex tenant"; empty: no keys asked
  std::string tenants_file;       // TOML: weights and limits of tenants
  std::string tls_cert, tls_key;  // PEM files; both or neither
  std::string tls_client_ca;      // PEM file: clients must show a certificate signed by it
  std::vector<std::string> cors_origin;
  // Operation
  double drain_timeout_s = 30;
  double stall_timeout_s = 2;       // not ready when work has not advanced for so long
  std::string log_level = "info";   // trace | debug | info | warn | error
  std::string log_format = "text";  // text | json
  std::string metrics_alias;        // empty | vllm
  std::string
      plant_fault;  // for tests of the server itself: leak-row | fail-step=N | stall-step=N | ...
};

}  // namespace sluice
