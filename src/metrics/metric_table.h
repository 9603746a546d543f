// What the metrics are: their names, labels and meanings.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace sluice {

// Indices: of the table below, and of what is kept of each metric.
enum MetricId : uint8_t {
  kRunning,
  kWaiting,
  kWaitingTokens,
  kKvUsage,
  kKvBlocks,
  kPreemptions,
  kPrefixQueries,
  kPrefixHits,
  kPromptTokens,
  kOutputTokens,
  kEmbeddedInputs,
  kSteps,
  kStepTokens,
  kStepDuration,
  kSimulatedBusy,
  kSimulatedIdle,
  kRequests,
  kRefused,
  kQueueTime,
  kTtft,
  kItl,
  kTpot,
  kE2e,
  kRequestPromptTokens,
  kRequestOutputTokens,
  kTenantWaiting,
  kFairness,
  kTenantTokens,
  kTenantRefused,
  kOpenStreams,
  kOrphans,
  kHttpRequests,
  kHttpDuration,
  kRpcRequests,
  kRpcDuration,
  kConnections,
  kDeviceUtilisation,
  kDeviceMemory,
  kDevicePower,
  kDevicePowerLimit,
  kDeviceTemperature,
  kDeviceClock,
  kDeviceMemoryErrors,
  kDeviceXidErrors,
  kDeviceLost,
  kReady,
  kSimulated,
  kBuildInfo,
  kCacheInfo,
  kNumMetrics
};

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

struct MetricDefinition {
  MetricId id;
  MetricType type;
  const char* name;
  const char* labels;  // beside model_name
  const char* help;
  const char* vllm = nullptr;  // the name under --metrics-alias=vllm
  double first_bucket = 0, last_bucket = 0;

  // Bounds of a histogram: 1, 2, 5 and so on from the first to the last.
  [[nodiscard]] std::vector<double> Buckets() const;
};

// The one table: the metrics page and its documentation. Indexed by MetricId.
extern const std::array<MetricDefinition, kNumMetrics> kMetricTable;

// Facts of the process, which every model shares.
constexpr bool IsOfProcess(MetricId id) {
  return id == kRefused || (id >= kTenantTokens && id <= kBuildInfo);
}

}  // namespace sluice
