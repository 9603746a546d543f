#include "service/validate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "base/errors.h"

namespace sluice {
namespace {

ModelInfo Model() {
  ModelInfo model;
  model.vocab_size = 1000;
  model.max_model_len = 100;
  model.eos_ids = {2};
  model.generation.temperature = 0.6F;
  return model;
}

struct BadCase {
  const char* param;
  std::function<void(SamplingOptions&)> spoil;
};

TEST(ResolveSampling, RefusesWhatIsOutOfRangeByName) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const BadCase cases[] = {
      {"temperature", [](SamplingOptions& o) { o.temperature = -0.1; }},
      {"temperature", [=](SamplingOptions& o) { o.temperature = nan; }},
      {"temperature", [](SamplingOptions& o) { o.temperature = INFINITY; }},
      {"top_p", [](SamplingOptions& o) { o.top_p = 0; }},
      {"top_p", [](SamplingOptions& o) { o.top_p = 1.01; }},
      {"top_k", [](SamplingOptions& o) { o.top_k = -2; }},
      {"min_p", [](SamplingOptions& o) { o.min_p = 2; }},
      {"repetition_penalty", [](SamplingOptions& o) { o.repetition_penalty = 0; }},
      {"presence_penalty", [](SamplingOptions& o) { o.presence_penalty = 2.5; }},
      {"frequency_penalty", [](SamplingOptions& o) { o.frequency_penalty = -2.5; }},
      {"logit_bias", [](SamplingOptions& o) { o.logit_bias[1000] = 1; }},
      {"logit_bias", [](SamplingOptions& o) { o.logit_bias[-1] = 1; }},
      {"logit_bias", [](SamplingOptions& o) { o.logit_bias[5] = 101; }},
      {"stop_token_ids", [](SamplingOptions& o) { o.stop_token_ids = {1 << 20}; }},
      {"min_tokens", [](SamplingOptions& o) { o.min_tokens = -1; }},
      {"min_tokens", [](SamplingOptions& o) { o.min_tokens = 9, o.max_tokens = 8; }},
      {"n", [](SamplingOptions& o) { o.n = 0; }},
      {"n", [](SamplingOptions& o) { o.n = 129; }},
      {"top_logprobs", [](SamplingOptions& o) { o.num_logprobs = 21; }},
      {"stop", [](SamplingOptions& o) { o.stop.emplace_back(""); }},
      {"stop", [](SamplingOptions& o) { o.stop.resize(17, Text("x")); }},
      {"stop", [](SamplingOptions& o) { o.stop.emplace_back(std::string(1025, 'x')); }},
  };
  for (const BadCase& bad : cases) {
    SamplingOptions options;
    bad.spoil(options);
    const auto result = ResolveSampling(options, Model(), 1);
    ASSERT_FALSE(result.ok()) << bad.param;
    EXPECT_TRUE(absl::IsInvalidArgument(result.status()));
    EXPECT_EQ(ErrorParam(result.status()), bad.param) << result.status();
  }
}

TEST(ResolveSampling, FillsInTheModelsDefaultsAndStopTokens) {
  SamplingOptions options;
  options.top_k = -1;
  options.stop_token_ids = {7, 2, 7};
  auto params = ResolveSampling(options, Model(), 42);
  ASSERT_TRUE(params.ok());
  EXPECT_EQ(params->temperature, 0.6F);
  EXPECT_EQ(params->top_k, 0);
  EXPECT_EQ(params->seed, 42U);
  EXPECT_EQ(params->stop_token_ids, (std::vector<TokenId>{2, 7}));
  options.ignore_eos = true;
  options.stop_token_ids.clear();
  options.seed = 7;
  params = ResolveSampling(options, Model(), 42);
  EXPECT_EQ(params->seed, 7U);
  EXPECT_TRUE(params->stop_token_ids.empty());
}

TEST(ResolveMaxOutputTokens, NeverTruncatesAPrompt) {
  GenerateRequest request;
  EXPECT_EQ(*ResolveMaxOutputTokens(request, Model(), 60), 40);
  request.default_max_tokens = 16;
  EXPECT_EQ(*ResolveMaxOutputTokens(request, Model(), 60), 16);
  EXPECT_EQ(*ResolveMaxOutputTokens(request, Model(), 95), 5);
  for (const int64_t prompt : {100, 101, 9000}) {
    const auto result = ResolveMaxOutputTokens(request, Model(), prompt);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(ErrorCode(result.status()), "context_length_exceeded");
  }
  request.sampling.max_tokens = 41;
  EXPECT_EQ(ErrorCode(ResolveMaxOutputTokens(request, Model(), 60).status()),
            "context_length_exceeded");
  request.sampling.max_tokens = 0;
  EXPECT_EQ(ErrorParam(ResolveMaxOutputTokens(request, Model(), 60).status()), "max_tokens");
  request.sampling.max_tokens = 3;
  request.resume_output_tokens = {1, 2, 3};
  EXPECT_EQ(ErrorParam(ResolveMaxOutputTokens(request, Model(), 60).status()),
            "resume_output_tokens");
}

}  // namespace
}  // namespace sluice
