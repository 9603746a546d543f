#include "metrics/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Metrics, UnlabelledSeriesAreThereFromTheStart) {
  const Metrics metrics("m", "");
  const std::string page = metrics.Render();
  EXPECT_THAT(page, HasSubstr("sluice_orphaned_requests{model_name=\"m\"} 0\n"));
  EXPECT_THAT(page, HasSubstr("sluice_ttft_seconds_count{model_name=\"m\"} 0\n"));
  EXPECT_THAT(page, Not(HasSubstr("vllm:")));
}

TEST(Metrics, AliasCarriesTheSameValues) {
  Metrics metrics("m", "vllm");
  metrics.SetEngine({.running = 3,
                     .waiting = 2,
                     .kv_free_blocks = 6,
                     .kv_referenced_blocks = 2,
                     .preemptions = 4});
  metrics.SetEngine({.running = 3,
                     .waiting = 2,
                     .kv_free_blocks = 6,
                     .kv_referenced_blocks = 2,
                     .preemptions = 5});
  metrics.ObserveTtft(absl::Milliseconds(3));
  metrics.ObserveEnd(FinishReason::kLength, absl::Seconds(1),
                     {.prompt_tokens = 7, .output_tokens = 9});
  const std::string page = metrics.Render();
  EXPECT_THAT(page, HasSubstr("sluice_running_sequences{model_name=\"m\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("vllm:num_requests_running{model_name=\"m\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("vllm:kv_cache_usage_perc{model_name=\"m\"} 0.25\n"));
  EXPECT_THAT(page, HasSubstr("vllm:num_preemptions_total{model_name=\"m\"} 5\n"));
  EXPECT_THAT(
      page,
      HasSubstr("vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"0.005\"} 1\n"));
  EXPECT_THAT(
      page,
      HasSubstr("vllm:request_success_total{finished_reason=\"length\",model_name=\"m\"} 1\n"));
}

TEST(Metrics, ModelsShareAPageAndAnAuditButNoSeries) {
  Metrics first("a", "vllm");
  const std::unique_ptr<Metrics> second = first.ForModel("b");
  first.CountOutputTokens(1);
  second->CountOutputTokens(2);
  first.SetEngine({});
  second->SetEngine({});
  second->orphans.EngineAdded();
  const std::string page = first.Render();
  EXPECT_THAT(page, HasSubstr("sluice_output_tokens_total{model_name=\"a\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("sluice_output_tokens_total{model_name=\"b\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("vllm:generation_tokens_total{model_name=\"b\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("sluice_orphaned_requests{model_name=\"a\"} 1\n"));
  EXPECT_THAT(page, Not(HasSubstr("sluice_orphaned_requests{model_name=\"b\"}")));
}

TEST(Metrics, AModelsSeriesLeaveThePageWithItsLastOwner) {
  const Metrics first("a", "vllm");
  std::unique_ptr<Metrics> one = first.ForModel("b"), two = first.ForModel("b");
  one->ObserveTtft(absl::Seconds(1));
  one->ObserveEnd(FinishReason::kLength, absl::Seconds(1), {});
  one.reset();
  two->CountOutputTokens(2);
  two->SetEngine({});
  EXPECT_THAT(first.Render(), HasSubstr("sluice_output_tokens_total{model_name=\"b\"} 2\n"));
  two.reset();
  EXPECT_THAT(first.Render(), Not(HasSubstr("model_name=\"b\"")));
  EXPECT_THAT(first.Render(), HasSubstr("vllm:generation_tokens_total{model_name=\"a\"} 0\n"));
}

TEST(Metrics, ADevicesSeriesAreWhatItTells) {
  Metrics metrics("m", "");
  EXPECT_THAT(metrics.Render(), Not(HasSubstr("device=")));
  metrics.SetDevice(1, {.utilisation = 0.5,
                        .memory_used_bytes = 30,
                        .memory_total_bytes = 80,
                        .memory_clock_hertz = 2e9,
                        .corrected_errors = 7,
                        .xid_errors = 0});
  metrics.SetDevice(1, {.utilisation = 0.25, .corrected_errors = 9, .xid_errors = 0, .lost = true});
  const std::string page = metrics.Render();
  for (const char* series :
       {"utilisation_ratio{device=\"1\",model_name=\"m\"} 0.25\n",
        "memory_bytes{device=\"1\",model_name=\"m\",state=\"used\"} 30\n",
        "memory_bytes{device=\"1\",model_name=\"m\",state=\"total\"} 80\n",
        "clock_hertz{device=\"1\",domain=\"memory\",model_name=\"m\"} 2000000000\n",
        "errors_total{device=\"1\",kind=\"corrected\",model_name=\"m\"} 9\n",
        "xid_errors_total{device=\"1\",model_name=\"m\"} 0\n",
        "lost{device=\"1\",model_name=\"m\"} 1\n"}) {
    EXPECT_THAT(page,
                HasSubstr(std::string("sluice_device_") +
                          (std::string(series).starts_with("errors") ? "memory_" : "") + series));
  }
  EXPECT_THAT(page, Not(HasSubstr("sluice_device_power_watts{")));
  EXPECT_THAT(page, Not(HasSubstr("kind=\"uncorrected\"")));
}

TEST(Metrics, EveryDefinitionIsDocumented) {
  const Metrics metrics("m", "");
  const std::string table = Metrics::DocumentationTable(), page = metrics.Render();
  for (size_t at = page.find("# TYPE "); at != std::string::npos;
       at = page.find("# TYPE ", at + 1)) {
    const std::string name = page.substr(at + 7, page.find(' ', at + 7) - at - 7);
    EXPECT_THAT(table, HasSubstr("| `" + name + "` |"));
  }
}

TEST(OrphanAudit, CountsEngineRequestsWhoseStreamHasGone) {
  OrphanAudit audit;
  audit.StreamOpened();
  audit.EngineAdded();
  EXPECT_EQ(audit.Orphans(), 0);
  audit.StreamClosed();  // the stream's end came, but the engine still holds the request
  EXPECT_EQ(audit.Orphans(), 1);
  audit.EngineRemoved();
  EXPECT_EQ(audit.Orphans(), 0);
  audit.StreamOpened();  // a refused request never reaches the engine
  EXPECT_EQ(audit.Orphans(), 0);
  EXPECT_EQ(audit.OpenStreams(), 1);
}

}  // namespace
}  // namespace sluice
