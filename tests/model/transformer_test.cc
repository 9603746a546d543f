// The forward pass against a forward pass without batches, blocks or views: one
// sequence, recomputed from its first token, in double.
#include "model/transformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "model/model_file.h"
#include "tests/model/run_step.h"
#include "tests/model/simple_ops.h"
#include "tests/model/test_gguf.h"

namespace sluice {
namespace {

using Row = std::vector<double>;

// The plain forward pass of one sequence over a file of F32 tensors.
class PlainModel {
 public:
  explicit PlainModel(const ModelFile& model) : file_(*model.gguf), c_(model.config) {}

  // Logits after the last token.
  Row Logits(const std::vector<int32_t>& tokens) const {
    std::vector<Row> x;
    for (const int32_t token : tokens)
      x.push_back(Values("token_embd.weight", token, c_.model_dim));
    for (int32_t l = 0; l < c_.num_layers; ++l) {
      const std::string blk = "blk." + std::to_string(l) + ".";
      std::vector<Row> q, k, v;
      for (size_t p = 0; p < x.size(); ++p) {
        const Row normed = Norm(x[p], blk + "attn_norm.weight");
        q.push_back(Heads(Times(blk + "attn_q", normed), blk + "attn_q_norm.weight",
                          static_cast<double>(p)));
        k.push_back(Heads(Times(blk + "attn_k", normed), blk + "attn_k_norm.weight",
                          static_cast<double>(p)));
        v.push_back(Times(blk + "attn_v", normed));
      }
      for (size_t p = 0; p < x.size(); ++p) {
        Add(x[p], Times(blk + "attn_output", Attend(q[p], k, v, p + 1)));
        const Row normed = Norm(x[p], blk + "ffn_norm.weight");
        const Row gate = Times(blk + "ffn_gate", normed);
        Row up = Times(blk + "ffn_up", normed);
        for (size_t i = 0; i < up.size(); ++i) up[i] *= gate[i] / (1 + std::exp(-gate[i]));
        Add(x[p], Times(blk + "ffn_down", up));
      }
    }
    const bool tied = file_.tensors().Find("output.weight") == nullptr;
    return Times(tied ? "token_embd" : "output", Norm(x.back(), "output_norm.weight"));
  }

 private:
  Row Values(const std::string& name, int64_t row, int64_t cols) const {
    const auto* values =
        reinterpret_cast<const float*>(file_.tensors().Find(name)->data) + row * cols;
    return {values, values + cols};
  }

  Row Norm(const Row& x, const std::string& name) const {
    const Row weight = Values(name, 0, static_cast<int64_t>(x.size()));
    double squares = 0;
    for (const double value : x) squares += value * value;
    Row out = x;
    for (size_t i = 0; i < x.size(); ++i) {
      out[i] *= weight[i] / std::sqrt(squares / static_cast<double>(x.size()) + c_.norm_eps);
    }
    return out;
  }

  Row Times(const std::string& name, const Row& x) const {
    const ModelTensor* tensor = file_.tensors().Find(name + ".weight");
    Row out(tensor->dims[1]);
    const bool has_bias = file_.tensors().Find(name + ".bias") != nullptr;
    if (has_bias) out = Values(name + ".bias", 0, tensor->dims[1]);
    for (int64_t n = 0; n < tensor->dims[1]; ++n) {
      const Row w = Values(name + ".weight", n, tensor->dims[0]);
      for (size_t i = 0; i < x.size(); ++i) out[n] += w[i] * x[i];
    }
    return out;
  }

  // Norm of every head, if the model has it, and rotation of neighbouring pairs by the position.
  Row Heads(const Row& x, const std::string& norm_name, double position) const {
    Row out;
    for (size_t begin = 0; begin < x.size(); begin += c_.head_dim) {
      Row head(x.begin() + static_cast<std::ptrdiff_t>(begin),
               x.begin() + static_cast<std::ptrdiff_t>(begin) + c_.head_dim);
      if (file_.tensors().Find(norm_name) != nullptr) head = Norm(head, norm_name);
      const ModelTensor* divisors = file_.tensors().Find("rope_freqs.weight");
      for (int32_t i = 0; i < c_.rope.dim / 2; ++i) {
        double angle =
            position * c_.rope.position_scale * std::pow(c_.rope.theta, -2.0 * i / c_.rope.dim);
        if (divisors != nullptr) angle /= Values("rope_freqs.weight", 0, c_.rope.dim / 2)[i];
        const double a = head[2 * i], b = head[2 * i + 1];
        head[2 * i] = a * std::cos(angle) - b * std::sin(angle);
        head[2 * i + 1] = a * std::sin(angle) + b * std::cos(angle);
      }
      out.insert(out.end(), head.begin(), head.end());
    }
    return out;
  }

  Row Attend(const Row& q, const std::vector<Row>& k, const std::vector<Row>& v,
             size_t context) const {
    Row out(q.size());
    const int32_t group = c_.num_q_heads / c_.num_kv_heads;
    for (int32_t h = 0; h < c_.num_q_heads; ++h) {
      const int32_t at = h * c_.head_dim, kv_at = h / group * c_.head_dim;
      Row weight(context);
      double sum = 0;
      for (size_t p = 0; p < context; ++p) {
        double score = 0;
        for (int32_t i = 0; i < c_.head_dim; ++i) score += q[at + i] * k[p][kv_at + i];
        sum += weight[p] = std::exp(score / std::sqrt(c_.head_dim));
      }
      for (size_t p = 0; p < context; ++p) {
        for (int32_t i = 0; i < c_.head_dim; ++i) out[at + i] += weight[p] / sum * v[p][kv_at + i];
      }
    }
    return out;
  }

  static void Add(Row& x, const Row& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  const GgufFile& file_;
  const ModelConfig c_;
};

void ExpectNear(const std::vector<float>& got, const Row& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want[i], tolerance * (1 + std::abs(want[i]))) << "logit " << i;
}

struct Family {
  const char* name;
  TestModelShape shape;
  bool rope_freqs = false, linear_scaling = false;
};

class TransformerFamilies : public ::testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    TestGguf file = MakeTestModel(GetParam().shape, 5);
    if (GetParam().linear_scaling) {
      file.SetString("llama.rope.scaling.type", "linear");
      file.SetF32("llama.rope.scaling.factor", 2);
      file.SetU32("llama.rope.dimension_count", 4);
    }
    if (GetParam().rope_freqs) {
      const std::string divisors = ByteWriter().Add(1.0F).Add(2.0F).Add(3.0F).Add(8.0F).str();
      file.tensors.push_back({"rope_freqs.weight", {4}, 0, divisors, std::nullopt});
    }
    bytes_ = file.Build();
    auto gguf = GgufFile::Parse(bytes_, "tiny");
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    auto model = ModelFile::FromGguf(*std::move(gguf));
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = std::make_unique<ModelFile>(*std::move(model));
  }

  // A prompt in two chunks beside another sequence, blocks out of order; then one token each.
  void ExpectThePlainForwardPass(Ops& ops, double tolerance) {
    auto made = Transformer::Create(model_->config, model_->weights, {64, 8, 128, 16, 32}, ops);
    ASSERT_TRUE(made.ok()) << made.status();
    Transformer& transformer = **made;
    const PlainModel plain(*model_);
    const std::vector<int32_t> a = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6};
    const std::vector<int32_t> b = {27, 18, 28};
    const std::vector<int32_t> head(a.begin(), a.begin() + 10), tail(a.begin() + 10, a.end());
    EXPECT_TRUE(RunStep(transformer, ops, {{head, 0, {7}, false}}).empty());
    const auto step = RunStep(transformer, ops, {{b, 0, {4}}, {tail, 10, {7, 2}}});
    ASSERT_EQ(step.size(), 2U);
    ExpectNear(step[0], plain.Logits(b), tolerance);
    ExpectNear(step[1], plain.Logits(a), tolerance);
    const auto next = RunStep(transformer, ops, {{{40}, 21, {7, 2}}, {{11}, 3, {4}}});
    std::vector<int32_t> a_next = a, b_next = b;
    a_next.push_back(40);
    b_next.push_back(11);
    ExpectNear(next[0], plain.Logits(a_next), tolerance);
    ExpectNear(next[1], plain.Logits(b_next), tolerance);
  }

  std::vector<uint8_t> bytes_;
  std::unique_ptr<ModelFile> model_;
};

TEST_P(TransformerFamilies, OverTextbookOpsEqualsThePlainForwardPass) {
  SimpleOps ops;
  ExpectThePlainForwardPass(ops, 2e-4);
}

// Keys and values in f16 and sums in float are all that differs.
TEST_P(TransformerFamilies, OverTheCpuBackendEqualsThePlainForwardPass) {
  auto ops = CreateCpuOps({.threads = 1});
  ASSERT_TRUE(ops.ok()) << ops.status();
  ExpectThePlainForwardPass(**ops, 1e-2);
}

INSTANTIATE_TEST_SUITE_P(Parts, TransformerFamilies,
                         ::testing::Values(Family{"Plain", {}},
                                           Family{"HeadOfItsOwn", {.tied_head = false}},
                                           Family{"OneLayer", {.num_layers = 1}},
                                           Family{"EveryHeadItsOwnKv", {.num_kv_heads = 4}},
                                           Family{"Biases", {.biases = true}},
                                           Family{"HeadNorms", {.head_norms = true}},
                                           Family{"RopeFreqs", {}, true, false},
                                           Family{"LinearScaling", {}, false, true}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Transformer, RefusesAContextBeyondTheModel) {
  const std::vector<uint8_t> bytes = MakeTestModel().Build();
  const auto model = ModelFile::FromGguf(*GgufFile::Parse(bytes, "tiny"));
  SimpleOps ops;
  const auto transformer =
      Transformer::Create(model->config, model->weights, {64, 8, 513, 16, 32}, ops);
  EXPECT_EQ(transformer.status().message(), "a context of 513 tokens; the model allows 1 to 512");
}

}  // namespace
}  // namespace sluice
