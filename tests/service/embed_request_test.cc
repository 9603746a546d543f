#include "service/embed_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/errors.h"

namespace sluice {
namespace {

using testing::ElementsAre;

// A token a byte, in the frame [CLS] first [SEP] second [SEP].
class ByteTokenizer final : public Tokenizer {
 public:
  [[nodiscard]] std::vector<TokenId> Encode(std::span<const PromptSegment>) const override {
    ADD_FAILURE() << "texts have a frame";
    return {};
  }
  [[nodiscard]] EncodedTexts EncodeTexts(const Text& first, const Text* second,
                                         size_t max_tokens) const override {
    max_tokens_asked = max_tokens;
    ++num_encoded;
    EncodedTexts out;
    const auto add = [&out](TokenId token, uint8_t type) {
      out.tokens.push_back(token);
      out.type_ids.push_back(type);
    };
    add(128, 0);
    for (const char c : first.Reveal()) add(c, 0);
    add(129, 0);
    if (second == nullptr) return out;
    for (const char c : second->Reveal()) add(c, 1);
    add(129, 1);
    return out;
  }
  [[nodiscard]] std::string_view TokenBytes(TokenId) const override { return "x"; }
  [[nodiscard]] bool IsSpecial(TokenId) const override { return false; }
  [[nodiscard]] int32_t vocab_size() const override { return 130; }
  [[nodiscard]] std::string Decode(std::span<const TokenId>, bool) const override { return {}; }
  mutable int num_encoded = 0;
  mutable size_t max_tokens_asked = 0;
};

ModelInfo Model(ModelTask task, int32_t dim = 8) {
  ModelInfo model;
  model.name = "m";
  model.vocab_size = 130;
  model.max_model_len = 6;
  model.task = task;
  model.vector_dim = dim;
  return model;
}

EmbedRequest Texts(const std::vector<std::string>& texts) {
  EmbedRequest request;
  for (const std::string& text : texts) request.inputs.emplace_back(Text(text));
  return request;
}

EmbedRequest Pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  EmbedRequest request;
  for (const auto& [first, second] : pairs)
    request.inputs.emplace_back(TextPair{Text(first), Text(second)});
  return request;
}

TEST(EmbedRequest, PutsTheSpecialTokensAroundTextsButNotAroundTokens) {
  EmbedRequest request = Texts({"ab"});
  request.inputs.emplace_back(std::vector<TokenId>{1, 2, 3});
  const auto work = BuildPooledWork(request, Model(ModelTask::kEmbed), ByteTokenizer());
  ASSERT_TRUE(work.ok()) << work.status();
  EXPECT_THAT(work->inputs[0].tokens, ElementsAre(128, 'a', 'b', 129));
  EXPECT_THAT(work->inputs[1].tokens, ElementsAre(1, 2, 3));
  EXPECT_TRUE(work->normalise);
  EXPECT_FALSE(work->sigmoid);
}

TEST(EmbedRequest, ACrossEncoderReadsAPairAtOnce) {
  const auto work = BuildPooledWork(Pairs({{"a", "b"}, {"a", "c"}}), Model(ModelTask::kScore, 1),
                                    ByteTokenizer());
  ASSERT_TRUE(work.ok()) << work.status();
  EXPECT_THAT(work->inputs[1].tokens, ElementsAre(128, 'a', 129, 'c', 129));
  EXPECT_EQ(work->inputs[1].second_begin, 3);
  EXPECT_TRUE(work->sigmoid);
  EXPECT_FALSE(work->normalise);
  EXPECT_TRUE(work->pairs.empty());
}

TEST(EmbedRequest, PairsForOtherModelsEmbedEachTextOnce) {
  const ByteTokenizer tokenizer;
  const auto work = BuildPooledWork(Pairs({{"q", "b"}, {"q", "c"}, {"q", "b"}, {"q", "q"}}),
                                    Model(ModelTask::kEmbed), tokenizer);
  ASSERT_TRUE(work.ok()) << work.status();
  EXPECT_EQ(work->inputs.size(), 3U);
  EXPECT_THAT(work->pairs,
              ElementsAre(std::pair(0, 1), std::pair(0, 2), std::pair(0, 1), std::pair(0, 0)));
  EXPECT_EQ(tokenizer.num_encoded, 5);  // the query once
  EXPECT_TRUE(work->normalise);
}

TEST(EmbedRequest, CutsWhatIsAskedToBeCut) {
  const ByteTokenizer tokenizer;
  const ModelInfo model = Model(ModelTask::kEmbed);
  EmbedRequest request = Texts({"ab"});
  request.inputs.emplace_back(std::vector<TokenId>{1, 2, 3, 4, 5, 6, 7});
  request.truncate_tokens = 4;
  auto work = BuildPooledWork(request, model, tokenizer);
  ASSERT_TRUE(work.ok()) << work.status();
  EXPECT_EQ(tokenizer.max_tokens_asked, 4U);
  EXPECT_THAT(work->inputs[1].tokens, ElementsAre(1, 2, 3, 4));
  request.truncate_tokens = -1;
  work = BuildPooledWork(request, model, tokenizer);
  ASSERT_TRUE(work.ok()) << work.status();
  EXPECT_THAT(work->inputs[1].tokens, ElementsAre(1, 2, 3, 4, 5, 6));
  request.truncate_tokens = 7;
  EXPECT_THAT(BuildPooledWork(request, model, tokenizer).status().message(),
              testing::HasSubstr("truncate_prompt_tokens is 7; the model allows 1 to 6"));
}

struct Refusal {
  EmbedRequest request;
  ModelTask task;
  int32_t dim;
  std::string param, message;
};

TEST(EmbedRequest, RefusesInOneSentenceThatNamesTheInput) {
  EmbedRequest big = Texts({"a"});
  big.dimensions = 9;
  EmbedRequest zero = Texts({"a"});
  zero.dimensions = 0;
  EmbedRequest scored = Pairs({{"a", "b"}});
  scored.dimensions = 1;
  EmbedRequest mixed = Texts({"a"});
  mixed.inputs.emplace_back(TextPair{Text("a"), Text("b")});
  EmbedRequest none = Texts({"a"});
  none.inputs.emplace_back(std::vector<TokenId>{});
  EmbedRequest unknown = Texts({"a"});
  unknown.inputs.emplace_back(std::vector<TokenId>{3, 130});
  EmbedRequest many;
  many.inputs.assign(kMaxEmbedInputs + 1, Text("a"));
  const Refusal kRefusals[] = {
      {Texts({"a", "b", "c", "hello"}), ModelTask::kEmbed, 8, "input",
       "input 3 has 7 tokens; the model allows 6"},
      {Pairs({{"a", "b"}, {"ab", "cd"}}), ModelTask::kScore, 1, "input",
       "input 1 has 7 tokens; the model allows 6"},
      {Texts({"a"}), ModelTask::kGenerate, 0, "model",
       "model m generates text; it makes no embeddings"},
      {Texts({"a"}), ModelTask::kScore, 1, "model",
       "model m scores pairs of texts; it makes no embeddings"},
      {Pairs({{"a", "b"}}), ModelTask::kScore, 3, "model",
       "model m has 3 labels; a score is made of one"},
      {big, ModelTask::kEmbed, 8, "dimensions", "dimensions is 9; the model allows 1 to 8"},
      {zero, ModelTask::kEmbed, 8, "dimensions", "dimensions is 0; the model allows 1 to 8"},
      {scored, ModelTask::kEmbed, 8, "dimensions", "dimensions is not for scores"},
      {mixed, ModelTask::kEmbed, 8, "input", "the inputs mix pairs with single texts"},
      {none, ModelTask::kEmbed, 8, "input", "input 1 has no tokens; it needs at least one"},
      {unknown, ModelTask::kEmbed, 8, "input",
       "input 1 has token 130; the vocabulary has tokens 0 to 129"},
      {many, ModelTask::kEmbed, 8, "input", "there are 2049 inputs; at most 2048 are allowed"},
      {{}, ModelTask::kEmbed, 8, "input", "there are 0 inputs; at least 1 is needed"},
  };
  for (const Refusal& refusal : kRefusals) {
    const auto work =
        BuildPooledWork(refusal.request, Model(refusal.task, refusal.dim), ByteTokenizer());
    ASSERT_TRUE(absl::IsInvalidArgument(work.status())) << refusal.message;
    EXPECT_EQ(work.status().message(), refusal.message);
    EXPECT_EQ(ErrorParam(work.status()), refusal.param);
  }
}

TEST(EmbedRequest, AModelOfVectorsGeneratesNoText) {
  EXPECT_TRUE(CheckGenerates(Model(ModelTask::kGenerate)).ok());
  EXPECT_EQ(CheckGenerates(Model(ModelTask::kEmbed)).message(),
            "model m makes embeddings; it generates no text");
  EXPECT_EQ(CheckGenerates(Model(ModelTask::kScore)).message(),
            "model m scores pairs of texts; it generates no text");
}

}  // namespace
}  // namespace sluice
