#include "metrics/metric_table.h"

#include <cstddef>

namespace sluice {

using enum MetricType;

constexpr std::array<MetricDefinition, kNumMetrics> kMetricTable = {{
    {kRunning, kGauge, "sluice_running_sequences", "", "Sequences that hold a row",
     "vllm:num_requests_running"},
    {kWaiting, kGauge, "sluice_waiting_sequences", "", "Sequences waiting for a row",
     "vllm:num_requests_waiting"},
    {kWaitingTokens, kGauge, "sluice_waiting_tokens", "", "Prompt tokens of waiting sequences"},
    {kKvUsage, kGauge, "sluice_kv_cache_usage_ratio", "", "KV blocks in use by sequences, 0 to 1",
     "vllm:kv_cache_usage_perc"},
    {kKvBlocks, kGauge, "sluice_kv_blocks", "state",
     "KV blocks by state: free, cached (reusable, unreferenced), referenced"},
    {kPreemptions, kCounter, "sluice_preemptions_total", "",
     "Running sequences returned to waiting for lack of KV blocks", "vllm:num_preemptions_total"},
    {kPrefixQueries, kCounter, "sluice_prefix_cache_queries_tokens_total", "",
     "Prompt tokens looked up in the prefix cache", "vllm:prefix_cache_queries_total"},
    {kPrefixHits, kCounter, "sluice_prefix_cache_hits_tokens_total", "",
     "Prompt tokens found in the prefix cache", "vllm:prefix_cache_hits_total"},
    {kPromptTokens, kCounter, "sluice_prompt_tokens_total", "",
     "Prompt tokens of admitted requests", "vllm:prompt_tokens_total"},
    {kOutputTokens, kCounter, "sluice_output_tokens_total", "", "Output tokens",
     "vllm:generation_tokens_total"},
    {kEmbeddedInputs, kCounter, "sluice_embedded_inputs_total", "",
     "Texts and pairs of texts whose vector or score was computed"},
    {kSteps, kCounter, "sluice_steps_total", "", "Steps of the engine"},
    {kStepTokens, kHistogram, "sluice_step_tokens", "", "New tokens a step", nullptr, 1, 10000},
    {kStepDuration, kHistogram, "sluice_step_duration_seconds", "", "Device time of a step",
     nullptr, 1e-4, 10},
    {kSimulatedBusy, kCounter, "sluice_simulated_device_busy_seconds_total", "",
     "Time of steps on a simulated device"},
    {kSimulatedIdle, kCounter, "sluice_simulated_device_idle_seconds_total", "",
     "Time between steps of a simulated device while there was a sequence to compute"},
    {kRequests, kCounter, "sluice_requests_total", "finished_reason",
     "Requests that ended, by true reason", "vllm:request_success_total"},
    {kRefused, kCounter, "sluice_refused_requests_total", "reason",
     "Requests refused before they ran"},
    {kQueueTime, kHistogram, "sluice_queue_duration_seconds", "",
     "From submission to the first planned token", "vllm:request_queue_time_seconds", 1e-3, 100},
    {kTtft, kHistogram, "sluice_ttft_seconds", "", "Request accepted to first output token",
     "vllm:time_to_first_token_seconds", 1e-3, 100},
    {kItl, kHistogram, "sluice_itl_seconds", "",
     "Gap between consecutive output tokens of a sequence", "vllm:inter_token_latency_seconds",
     1e-4, 10},
    {kTpot, kHistogram, "sluice_tpot_seconds", "",
     "(end to end - TTFT) / (output tokens - 1), one value a sequence",
     "vllm:request_time_per_output_token_seconds", 1e-4, 10},
    {kE2e, kHistogram, "sluice_request_duration_seconds", "", "Request accepted to its end",
     "vllm:e2e_request_latency_seconds", 1e-3, 1000},
    {kRequestPromptTokens, kHistogram, "sluice_request_prompt_tokens", "",
     "Prompt tokens of a request", "vllm:request_prompt_tokens", 1, 1e5},
    {kRequestOutputTokens, kHistogram, "sluice_request_output_tokens", "",
     "Output tokens of a request", "vllm:request_generation_tokens", 1, 1e5},
    {kTenantWaiting, kGauge, "sluice_tenant_waiting_sequences", "tenant",
     "Sequences waiting for a row, by tenant of the tenants file"},
    {kFairness, kGauge, "sluice_fairness_jain_index", "",
     "Jain's index of what tenants with a backlog were served by weight in the last 10 s: 1 is "
     "fair"},
    {kTenantTokens, kCounter, "sluice_tenant_tokens_total", "tenant,kind",
     "Tokens of requests that ended, prompt or output, by tenant of the tenants file"},
    {kTenantRefused, kCounter, "sluice_tenant_refused_requests_total", "tenant,limit",
     "Requests refused for a limit, by tenant of the tenants file"},
    {kOpenStreams, kGauge, "sluice_open_streams", "",
     "Calls of front ends whose terminal event has not been taken"},
    {kOrphans, kGauge, "sluice_orphaned_requests", "",
     "Engine requests whose stream has gone: always 0, anything else is a leak"},
    {kHttpRequests, kCounter, "sluice_http_requests_total", "route,code",
     "HTTP requests by route and status"},
    {kHttpDuration, kHistogram, "sluice_http_request_duration_seconds", "route",
     "HTTP request read to answer written", nullptr, 1e-3, 1000},
    {kRpcRequests, kCounter, "sluice_rpc_requests_total", "method,code",
     "gRPC calls by method and status"},
    {kRpcDuration, kHistogram, "sluice_rpc_request_duration_seconds", "method",
     "gRPC call start to its status", nullptr, 1e-3, 1000},
    {kConnections, kGauge, "sluice_connections", "protocol", "Open client connections"},
    {kDeviceUtilisation, kGauge, "sluice_device_utilisation_ratio", "device",
     "Share of the last sample period with a kernel running, 0 to 1"},
    {kDeviceMemory, kGauge, "sluice_device_memory_bytes", "device,state",
     "Memory of the device by state: used (by all processes), total"},
    {kDevicePower, kGauge, "sluice_device_power_watts", "device", "Power drawn"},
    {kDevicePowerLimit, kGauge, "sluice_device_power_limit_watts", "device",
     "Power at which the device slows down"},
    {kDeviceTemperature, kGauge, "sluice_device_temperature_celsius", "device",
     "Temperature of the chip"},
    {kDeviceClock, kGauge, "sluice_device_clock_hertz", "device,domain",
     "Clock now, of compute or memory"},
    {kDeviceMemoryErrors, kCounter, "sluice_device_memory_errors_total", "device,kind",
     "Errors of memory (ECC) since the driver was loaded, corrected or uncorrected"},
    {kDeviceXidErrors, kCounter, "sluice_device_xid_errors_total", "device",
     "Critical errors that the driver reported (Xid) since the server started"},
    {kDeviceLost, kGauge, "sluice_device_lost", "device",
     "1 when the device does not answer any more"},
    {kReady, kGauge, "sluice_ready", "", "1 while the server takes new work"},
    {kSimulated, kGauge, "sluice_simulated", "",
     "1 where the device is simulated: times are a model's and tokens a script's"},
    {kBuildInfo, kGauge, "sluice_build_info", "version,backend,isa", "Always 1"},
    {kCacheInfo, kGauge, "sluice_kv_cache_info", "block_size,num_gpu_blocks",
     "Always 1; KV block tokens and number of KV blocks", "vllm:cache_config_info"},
}};

static consteval bool IsIndexedById() {
  for (size_t i = 0; i < kMetricTable.size(); ++i) {
    if (kMetricTable[i].id != i) return false;
  }
  return true;
}
static_assert(IsIndexedById());

std::vector<double> MetricDefinition::Buckets() const {
  const double end = last_bucket * 1.0001;
  std::vector<double> buckets;
  for (double decade = first_bucket; decade <= end; decade *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) {
      if (decade * step <= end) buckets.push_back(decade * step);
    }
  }
  return buckets;
}

}  // namespace sluice
