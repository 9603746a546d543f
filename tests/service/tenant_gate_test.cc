#include "service/tenant_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/errors.h"
#include "base/retry_after.h"
#include "service/prepare_pool.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FakeClock final : public Clock {
 public:
  [[nodiscard]] absl::Time Now() const override { return now; }
  absl::Time now = absl::UnixEpoch();
};

std::string Write(const std::string& text) {
  // Tests run side by side, each in its process.
  const std::string path = testing::TempDir() + "tenants-" + std::to_string(getpid()) + ".toml";
  std::ofstream(path) << text;
  return path;
}

absl::StatusOr<TenantRules> Rules(const std::string& text) {
  return TenantRules::Load(Write(text), true);
}

class TenantGateTest : public testing::Test {
 protected:
  void Start(const std::string& text) {
    auto rules = Rules(text);
    ASSERT_TRUE(rules.ok()) << rules.status();
    gate_ = std::make_unique<TenantGate>(*std::move(rules), &metrics_, &clock_);
  }
  std::string Code(const std::string& tenant) { return ErrorCode(gate_->Enter(tenant).status()); }

  FakeClock clock_;
  Metrics metrics_{"m", ""};
  std::unique_ptr<TenantGate> gate_;
};

TEST_F(TenantGateTest, LimitsRequestsASecondAndSaysWhenTheNextMayCome) {
  Start("[[tenant]]\nname = 'a'\nmax-requests-per-s = 2\n");
  EXPECT_EQ(Code("a"), "");
  EXPECT_EQ(Code("a"), "");
  const absl::Status status = gate_->Enter("a").status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(ErrorCode(status), "requests_per_second");
  EXPECT_EQ(RetryAfterOf(status), absl::Seconds(0.5));
  EXPECT_EQ(Code("other"), "");
  clock_.now += absl::Seconds(0.5);
  EXPECT_EQ(Code("a"), "");
  EXPECT_EQ(Code("a"), "requests_per_second");
  clock_.now += absl::Hours(1);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Code("a"), "");
  EXPECT_EQ(Code("a"), "requests_per_second") << "an hour saves up no more than a second";
}

TEST_F(TenantGateTest, LimitsTokensAMinuteWhichMayBeOwed) {
  Start("[[tenant]]\nname = 'a'\nmax-tokens-per-min = 600\n");
  auto visit = gate_->Enter("a");
  ASSERT_TRUE(visit.ok());
  (*visit)->ChargePrompt(500);
  EXPECT_EQ(Code("a"), "") << "100 are left";
  (*visit)->Leave({.prompt_tokens = 500, .output_tokens = 400});
  (*visit)->Leave({.prompt_tokens = 500, .output_tokens = 400});  // once
  const absl::Status status = gate_->Enter("a").status();
  EXPECT_EQ(ErrorCode(status), "tokens_per_minute");
  EXPECT_NEAR(absl::ToDoubleSeconds(RetryAfterOf(status)), 30.1, 1e-6) << "300 owed at 10 a second";
  clock_.now += absl::Seconds(30.2);
  EXPECT_EQ(Code("a"), "");
  EXPECT_THAT(
      metrics_.Render(),
      HasSubstr(R"(sluice_tenant_tokens_total{kind="output",model_name="m",tenant="a"} 400)"));
  EXPECT_THAT(metrics_.Render(), HasSubstr(R"(limit="tokens_per_minute")"));
}

TEST_F(TenantGateTest, ARefusedRequestGetsItsPromptBack) {
  Start("[[tenant]]\nname = 'a'\nmax-tokens-per-min = 600\n");
  auto visit = gate_->Enter("a");
  (*visit)->ChargePrompt(600);
  EXPECT_EQ(Code("a"), "tokens_per_minute");
  (*visit)->Leave({});
  EXPECT_EQ(Code("a"), "");
}

TEST_F(TenantGateTest, LimitsRequestsAtOnce) {
  Start("[default]\nmax-concurrent = 2\n");
  auto one = gate_->Enter("a"), two = gate_->Enter("a");
  EXPECT_EQ(Code("a"), "concurrent_requests");
  EXPECT_EQ(Code("b"), "");
  (*one)->Leave({});
  EXPECT_EQ(Code("a"), "");
  two->reset();  // whoever forgets one leaves too
  EXPECT_EQ(Code("a"), "");
}

TEST_F(TenantGateTest, OnlyNamedTenantsHaveSeries) {
  Start("[default]\nmax-concurrent = 1\n[[tenant]]\nname = 'known'\n");
  for (const char* tenant : {"known", "unknown"}) {
    auto visit = gate_->Enter(tenant);
    EXPECT_EQ(Code(tenant), "concurrent_requests");
    (*visit)->Leave({.prompt_tokens = 1, .output_tokens = 1});
    metrics_.SetTenantWaiting(tenant, 3);
  }
  const std::string page = metrics_.Render();
  EXPECT_THAT(page, HasSubstr(R"(tenant="known")"));
  EXPECT_THAT(page, testing::Not(HasSubstr(R"(tenant="unknown")")));
}

TEST_F(TenantGateTest, NewRulesCountAtOnce) {
  Start("[default]\nmax-concurrent = 1\n");
  auto visit = gate_->Enter("a");
  EXPECT_EQ(Code("a"), "concurrent_requests");
  gate_->SetRules(*Rules("[default]\nmax-concurrent = 2\n"));
  EXPECT_EQ(Code("a"), "");
}

TEST(TenantRules, ATenantHasWhatItSetsAndElseTheDefaults) {
  const auto rules = Rules(
      "[default]\nweight = 2\nmax-queue-share = 0.25\n"
      "[[tenant]]\nname = 'a'\nweight = 5\nmax-requests-per-s = 0.5\n");
  ASSERT_TRUE(rules.ok()) << rules.status();
  EXPECT_EQ(rules->Of("a").weight, 5);
  EXPECT_EQ(rules->Of("a").max_requests_per_s, 0.5);
  EXPECT_EQ(rules->Of("a").max_queue_share, 0.25);
  EXPECT_EQ(rules->Of("a").best_priority, 0);
  EXPECT_EQ(rules->Of("b").weight, 2);
  EXPECT_THAT(rules->names(), ElementsAre("a"));
  EXPECT_EQ(TenantRules(true).Of("x").max_queue_share, 0.5);
  EXPECT_EQ(TenantRules(false).Of("x").max_queue_share, 1);
}

TEST(TenantRules, SaysWhatIsWrongAndWhere) {
  const auto error = [](const std::string& text) { return Rules(text).status().ToString(); };
  EXPECT_THAT(error("[[tenant]]\nweight = 1\n"), HasSubstr("a tenant has no name"));
  EXPECT_THAT(error("[[tenant]]\nname = 'a'\nweight = 101\n"),
              HasSubstr("tenant a: weight is no integer between 1 and 100"));
  EXPECT_THAT(error("[default]\nweight = 1.5\n"), HasSubstr("default: weight is no integer"));
  EXPECT_THAT(error("[default]\nmax-queue-share = 0\n"), HasSubstr("max-queue-share is no number"));
  EXPECT_THAT(error("[default]\nwait = 1\n"), HasSubstr("unknown key \"wait\""));
  EXPECT_THAT(error("[tenants]\n"), HasSubstr("\"tenants\" is neither"));
  EXPECT_THAT(error("[[tenant]]\nname = 'a'\n[[tenant]]\nname = 'a'\n"), HasSubstr("twice"));
  EXPECT_THAT(error("x = = 1\n"), HasSubstr(".toml:1"));
  EXPECT_TRUE(absl::IsNotFound(TenantRules::Load("/nowhere/tenants.toml", true).status()));
}

TEST(PreparePool, GroupsTakeTurnsAndNoneFillsTheQueue) {
  Mutex mutex;
  std::vector<std::string> order;
  CondVar opened;
  bool open = false, begun = false;
  {
    PreparePool pool(1, 8);
    const auto note = [&](std::string name) {
      return [&mutex, &order, name = std::move(name)] {
        const MutexLock lock(mutex);
        order.push_back(name);
      };
    };
    ASSERT_TRUE(pool.Submit(
                        [&] {
                          std::unique_lock<Mutex> lock(mutex);
                          begun = true;
                          opened.notify_all();
                          opened.wait(lock, [&] { return open; });
                        },
                        0)
                    .ok());
    {
      std::unique_lock<Mutex> lock(mutex);
      opened.wait(lock, [&] { return begun; });
    }
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(pool.Submit(note("flood"), 0, "flood", 0.5).ok());
    EXPECT_TRUE(absl::IsResourceExhausted(pool.Submit(note("flood"), 0, "flood", 0.5)));
    ASSERT_TRUE(pool.Submit(note("modest"), 0, "modest", 0.5).ok());
    const MutexLock lock(mutex);
    open = true;
    opened.notify_all();
  }
  EXPECT_THAT(order, ElementsAre("flood", "modest", "flood", "flood", "flood"));
}

}  // namespace
}  // namespace sluice
