#include "apps/settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <type_traits>

namespace sluice {
namespace {

constexpr double kMaxInt = 1 << 30;
constexpr double kDay = 86400;

Setting OfModel(Setting setting) {
  setting.of_model = true;
  return setting;
}

constexpr std::string_view kTenantsDocument = R"(
## Tenants

A key of `api-keys-file` belongs to a tenant. `tenants-file` says what each may have; what it does not say of a tenant is
the default's, and all of it may be left out. SIGHUP reads it again; a file that is wrong is logged and changes nothing.

```toml
[default]
max-queue-share = 0.25

[[tenant]]
name = "search"
weight = 3                    # 1 to 100: its share of the engine when others want it too
best-priority = -10           # a request that asks for a better one gets this; 0 where it is not set

[[tenant]]
name = "batch"
max-requests-per-s = 5        # 0, as all limits where they are not set: none
max-tokens-per-min = 100000   # of prompts and outputs
max-concurrent = 16           # requests that have not ended
max-queue-share = 0.5         # of max-waiting-requests and max-waiting-tokens; this is the default
```

Without keys there is one tenant, which may fill the queue and ask for any priority. Why floods do not matter to others:
[ADR 18](adr/0018-fairness-and-overload.md).
)";

std::string DefaultText(const Setting& setting) {
  const Config config;
  return std::visit(
      [&](auto field) -> std::string {
        const auto& value = config.*field;
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          return fmt::format("{}", fmt::join(value, ","));
        } else {
          return fmt::format("{}", value);
        }
      },
      setting.field);
}

std::string_view TypeName(const Setting& setting) {
  constexpr std::string_view kNames[] = {"text",   "integer",       "integer",
                                         "number", "true or false", "list"};
  return kNames[setting.field.index()];
}

std::string AllowedText(const Setting& setting) {
  const size_t type = setting.field.index();
  if (type >= 1 && type <= 3) return fmt::format("{} to {}", setting.min, setting.max);
  std::string choices(setting.choices);
  std::replace(choices.begin(), choices.end(), '|', ' ');
  return choices;
}

}  // namespace

const std::vector<Setting>& Settings() {
  using C = Config;
  static const std::vector<Setting> kSettings = {
      OfModel({"model", &C::model, "Path of the model: a GGUF file or a Hugging Face folder"}),
      OfModel({"served-model-name", &C::served_model_name,
               "Name of the model on the wire; empty: the folder's name, or the file's without "
               ".gguf. `default` always works too"}),
      OfModel({"quantize", &C::quantize,
               "Round F32, F16 and BF16 matrices to this type at load, the head (and an embedding "
               "that is also the head) to Q8_0; other embeddings, norms and the experts' router "
               "stay. Empty: weights stay as they are",
               0, 0, "|q8_0|q4_0|q4_1"}),
      OfModel({"embedding-pooling", &C::embedding_pooling,
               "Make a decoder model an embedding model: the vector is the state of its last or "
               "first (cls) token, or the mean of all. none: it generates. Empty: what a GGUF file "
               "says of itself, else none. Encoders pool as their files say",
               0, 0, "|none|last|mean|cls"}),
      OfModel({"model-alias", &C::model_alias, "Further names of the model"}),
      {"models", &C::models,
       "TOML file of several models in place of `model`: [[model]] tables, each with `model` and "
       "the settings marked * that differ from the server's"},
      {"model-dir", &C::model_dir,
       "Folder below which POST /admin/models/load finds models; empty: none can be loaded"},
      OfModel(
          {"max-model-len", &C::max_model_len,
           "Prompt and output tokens of one sequence; 0: what the model allows and KV memory holds",
           0, kMaxInt}),
      {"backend", &C::backend,
       "Where models run; auto: CUDA if there is a usable device, else the CPU. /version says why. "
       "sim: nowhere; a simulated device takes its time and answers with a script",
       0, 0, "auto|cpu|cuda|sim"},
      {"sim-device", &C::sim_device,
       "Device that backend sim simulates: a100, h100, h200, l4 or a TOML file like those in "
       "bench/engine/devices; empty: h100"},
      {"model-shape", &C::model_shape,
       "Sizes of the model that backend sim simulates: llama-3.1-8b or another file's name in "
       "bench/engine/shapes, or such a TOML file; empty: those of `model`, which gives tokenizer "
       "and template in any case"},
      {"gpu-device", &C::gpu_device, "CUDA device, as the driver numbers them", 0, 63},
      {"tensor-parallel-size", &C::tensor_parallel_size,
       "CUDA devices, gpu-device and those after it, that share each model's weights, heads and KV "
       "cache; NCCL joins them",
       1, 64},
      OfModel(
          {"gpu-memory-fraction", &C::gpu_memory_fraction,
           "Part of the device's memory that this server may use, weights and KV cache included",
           0.05, 1}),
      {"deterministic", &C::deterministic,
       "On CUDA, one order of sums whatever the batch: an answer's bits do not depend on its "
       "neighbours. Prompts are slower. The CPU backend is always so"},
      {"cpu-isa", &C::cpu_isa, "Form of the CPU kernels; auto: the best this CPU has", 0, 0,
       "auto|avx512|avx2|scalar"},
      {"threads", &C::threads, "Kernel threads; 0: one a core", 0, 256},
      OfModel(
          {"kv-cache-mib", &C::kv_cache_mib,
           "Memory for the KV cache; 0: enough for max-rows sequences of max-model-len, at most "
           "what the device has left, or on the CPU a quarter of the memory that is free at start",
           0, kMaxInt}),
      OfModel({"kv-cache-dtype", &C::kv_cache_dtype,
               "How keys and values are kept: fp8 (e4m3) and int8, with a scale for each head and "
               "position, take about half the memory of f16 and bf16. CUDA only; the CPU backend "
               "has f16. auto: f16",
               0, 0, "auto|f16|bf16|fp8|int8"}),
      OfModel({"max-rows", &C::max_rows, "Sequences computed in one step", 1, 4096}),
      OfModel({"max-step-tokens", &C::max_step_tokens,
               "Token budget of a step: longer prompts are computed in chunks", 1, 65536}),
      OfModel({"max-waiting-requests", &C::max_waiting_requests,
               "Sequences that may wait; more are refused with 429", 1, kMaxInt}),
      OfModel({"max-waiting-tokens", &C::max_waiting_tokens,
               "Prompt tokens that may wait; more are refused with 429", 1, kMaxInt}),
      OfModel({"max-wait-s", &C::max_wait_s,
               "Seconds that a request may have to wait for a row, as estimated from the measured "
               "rate; one that would wait longer is refused with 429. 0: no limit",
               0, kDay}),
      OfModel({"priority-ageing-s", &C::priority_ageing_s,
               "Seconds of waiting that are worth one step of priority, up to the best that waits; "
               "0: none are",
               0, kDay}),
      OfModel({"prefix-cache", &C::prefix_cache,
               "Reuse the KV blocks of equal prompt beginnings, within a tenant"}),
      {"host", &C::host, "Address both protocols listen on; anything but loopback is a decision"},
      {"http-port", &C::http_port, "HTTP port; 0: a free one, named in the ready line", 0, 65535},
      {"grpc-port", &C::grpc_port, "gRPC port; 0: a free one; -1: no gRPC", -1, 65535},
      {"grpc-transport", &C::grpc_transport,
       "What carries gRPC: grpc++'s own server, or one over libnghttp2, which writes a step's "
       "tokens for a connection in one go",
       0, 0, "grpc|nghttp2"},
      {"admin-port", &C::admin_port, "Port of /admin on 127.0.0.1; 0: a free one; -1: none", -1,
       65535},
      {"admin-only-metrics", &C::admin_only_metrics,
       "Serve /metrics and health on the admin port only"},
      {"io-threads", &C::io_threads, "HTTP I/O threads, and as many for gRPC over nghttp2", 1, 64},
      {"io-uring", &C::io_uring,
       "Send what many connections get with one system call, where the kernel allows it"},
      {"prepare-threads", &C::prepare_threads, "Threads that template and tokenize prompts", 1, 64},
      {"max-connections", &C::max_connections, "HTTP connections; more are closed at once", 1,
       1000000},
      {"max-body-bytes", &C::max_body_bytes, "Bytes of one request's body or gRPC message", 1024,
       kMaxInt},
      {"max-header-bytes", &C::max_header_bytes, "Bytes of one request's header", 512, 1 << 20},
      {"max-json-depth", &C::max_json_depth, "Nesting of a JSON body", 4, 256},
      {"read-timeout-s", &C::read_timeout_s, "Seconds for a whole request from its first byte",
       0.01, kDay},
      {"idle-timeout-s", &C::idle_timeout_s, "Seconds a connection may stay open between requests",
       0.01, kDay},
      {"write-timeout-s", &C::write_timeout_s,
       "Seconds a client may take nothing of what is ready for it", 0.01, kDay},
      {"default-deadline-s", &C::default_deadline_s,
       "Deadline of a request that names none; 0: none", 0, kDay},
      {"api-keys-file", &C::api_keys_file,
       "File of `name sha256-hex tenant` lines, read again on SIGHUP; empty: no keys asked"},
      {"tenants-file", &C::tenants_file,
       "TOML file of [[tenant]] tables and a [default]: `name`, `weight`, `max-requests-per-s`, "
       "`max-tokens-per-min`, `max-concurrent`, `max-queue-share`, `best-priority`; read again on "
       "SIGHUP"},
      {"tls-cert", &C::tls_cert,
       "PEM file of the certificate chain, for both protocols; read again on SIGHUP"},
      {"tls-key", &C::tls_key, "PEM file of the private key"},
      {"tls-client-ca", &C::tls_client_ca,
       "PEM file: clients must show a certificate signed by it"},
      {"cors-origin", &C::cors_origin, "Origins allowed to call from a browser; empty: none"},
      {"drain-timeout-s", &C::drain_timeout_s,
       "Seconds that running work may take to finish after SIGTERM", 0, kDay},
      {"stall-timeout-s", &C::stall_timeout_s,
       "Not ready when work has not advanced for so many seconds, or for four times what such a "
       "step took at worst",
       0.01, kDay},
      {"log-level", &C::log_level, "Least severe level that is logged", 0, 0,
       "trace|debug|info|warn|error"},
      {"log-format", &C::log_format, "Lines for people or for machines", 0, 0, "text|json"},
      {"metrics-alias", &C::metrics_alias,
       "Also export the metrics under the names that autoscalers already read", 0, 0, "|vllm"},
      {"plant-fault", &C::plant_fault,
       "Misbehave, for tests of the server: leak-row, fail-step=N, stall-step=N, stall-prepare=N, "
       "stall-io=N or stall-pump=N"},
  };
  return kSettings;
}

std::string EnvironmentName(std::string_view setting) {
  std::string name = "SLUICE_" + std::string(setting);
  std::transform(name.begin(), name.end(), name.begin(), [](char c) {
    return c == '-' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  });
  return name;
}

bool IsBool(const Setting& setting) {
  return std::holds_alternative<bool Config::*>(setting.field);
}
bool IsList(const Setting& setting) {
  return std::holds_alternative<std::vector<std::string> Config::*>(setting.field);
}

std::string ConfigurationDocument() {
  std::string out =
      "# Configuration\n\n"
      "Every setting of `sluice serve` is a flag (`--http-port 8000`), an environment variable "
      "(`SLUICE_HTTP_PORT=8000`) and a\n"
      "key of the TOML file given by `--config` (`http-port = 8000`). Flags win over the "
      "environment, the environment over the\n"
      "file. Unknown flags and keys are errors; `--check-config` checks everything and exits. "
      "Secrets are never values of\n"
      "settings: keys and certificates are named by their files. Settings marked * may differ "
      "between the "
      "models of one server.\n"
      "This page is generated (`sluice config-doc`) and tested.\n\n"
      "| setting | type | default | allowed | meaning |\n|---|---|---|---|---|\n";
  for (const Setting& s : Settings()) {
    out += fmt::format("| `{}`{} | {} | {} | {} | {} |\n", s.name, s.of_model ? " *" : "",
                       TypeName(s), DefaultText(s), AllowedText(s), s.help);
  }
  return out.append(kTenantsDocument);
}

}  // namespace sluice
