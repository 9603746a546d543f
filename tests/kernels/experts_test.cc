// Mixture of experts: routing against a sort in double, and the whole block against plain products.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

// The memory behind a Routing.
class OwnedRouting {
 public:
  OwnedRouting(int32_t rows, int32_t num_experts, int32_t num_used)
      : ints_(static_cast<size_t>(3 * rows * num_used + 2 * num_experts + 2), -1),
        weights_(static_cast<size_t>(rows * num_used)) {
    const int32_t choices = rows * num_used;
    view = {num_experts,
            num_used,
            ints_.data(),
            weights_.data(),
            ints_.data() + choices,
            ints_.data() + 2 * choices,
            ints_.data() + 3 * choices,
            ints_.data() + 3 * choices + num_experts + 1};
  }
  Routing view;

 private:
  std::vector<int32_t> ints_;
  std::vector<float> weights_;
};

void Route(Ops& ops, Matrix& logits, bool renormalise, const Routing& routing) {
  ops.BeginStep(BatchView());
  ops.RouteExperts(logits.view(), renormalise, routing);
  ASSERT_TRUE(ops.Finish().ok());
}

TEST(RouteExperts, ChoosesAndWeighsLikeASortInDouble) {
  for (const auto& [experts, used] : {std::pair{2, 1}, {8, 2}, {60, 4}, {128, 8}, {1000, 64}}) {
    Matrix logits(21, experts, 3);
    for (float& v : logits.row(2)) v = std::round(v);  // ties
    for (float& v : logits.row(3)) v = 0;
    for (float& v : logits.row(4)) v *= 20;
    for (const bool renormalise : {false, true}) {
      for (const CpuSetting& setting : CpuSettings()) {
        SCOPED_TRACE(ToString(setting) + ", " + std::to_string(experts));
        OwnedRouting routing(logits.rows, experts, used);
        Route(*MakeCpuOps(setting), logits, renormalise, routing.view);
        for (int32_t t = 0; t < logits.rows; ++t) {
          const auto expected = reference::ChooseExperts(logits.row(t), used, renormalise);
          for (int32_t c = 0; c < used; ++c) {
            const auto& choice = expected[static_cast<size_t>(c)];
            ASSERT_EQ(routing.view.experts[t * used + c], choice.expert) << t << " " << c;
            ASSERT_NEAR(routing.view.weights[t * used + c], choice.weight,
                        choice.weight * (experts / 16.0 + 80) * 0x1p-23);
          }
        }
      }
    }
  }
}

TEST(RouteExperts, PlacesAreTheChoicesSortedByExpertThenRow) {
  constexpr int32_t kRows = 50, kExperts = 12, kUsed = 3;
  Matrix logits(kRows, kExperts, 5);
  for (int32_t t = 0; t < kRows; ++t) logits.row(t)[4] = -100;  // nobody chooses it
  OwnedRouting routing(kRows, kExperts, kUsed);
  const Routing& r = routing.view;
  Route(*MakeCpuOps({BestCpuIsa(), 2}), logits, true, r);
  EXPECT_EQ(r.begin[0], 0);
  EXPECT_EQ(r.begin[kExperts], kRows * kUsed);
  EXPECT_EQ(r.begin[4], r.begin[5]);
  EXPECT_EQ(r.active[0], kExperts - 1);
  EXPECT_EQ(r.active[5], 5);  // 0 1 2 3 5
  for (int32_t e = 0; e < kExperts; ++e) {
    for (int32_t p = r.begin[e]; p < r.begin[e + 1]; ++p) {
      EXPECT_EQ(r.experts[r.choice[p]], e);
      EXPECT_EQ(r.place[r.choice[p]], p);
      if (p > r.begin[e]) {
        EXPECT_LT(r.choice[p - 1], r.choice[p]);
      }
    }
  }
}

// Whatever a broken model computes, no index leaves its range.
TEST(RouteExperts, NanAndInfinityChooseDifferentExpertsInRange) {
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  Matrix logits(3, 5);
  logits.data = {nan, nan, nan,       nan,       nan,       -infinity, nan,      infinity,
                 0,   1,   -infinity, -infinity, -infinity, -infinity, -infinity};
  for (const CpuSetting& setting : CpuSettings()) {
    OwnedRouting routing(3, 5, 3);
    Route(*MakeCpuOps(setting), logits, false, routing.view);
    for (int32_t t = 0; t < 3; ++t) {
      std::vector<int32_t> chosen(routing.view.experts + 3 * t, routing.view.experts + 3 * t + 3);
      std::ranges::sort(chosen);
      EXPECT_TRUE(std::ranges::adjacent_find(chosen) == chosen.end());
      EXPECT_GE(chosen.front(), 0);
      EXPECT_LT(chosen.back(), 5);
    }
  }
}

struct Shape {
  DType dtype;
  int32_t num_experts, num_used, cols, rows;  // of one expert's matrix: rows outputs
};

std::string Bytes(const Shape& shape, uint32_t seed) {
  const std::vector<float> values =
      RandomFloats(static_cast<size_t>(shape.num_experts) * shape.rows * shape.cols, seed);
  if (shape.dtype == DType::kF32)
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  // Q8_0: blocks of an f16 scale and 32 bytes.
  std::string bytes;
  for (size_t i = 0; i < values.size(); i += 32) {
    const uint16_t scale = reference::FloatToHalf(0.01F + 0.001F * std::abs(values[i]));
    bytes.append(reinterpret_cast<const char*>(&scale), 2);
    for (size_t j = 0; j < 32; ++j)
      bytes.push_back(static_cast<char>(std::clamp(values[i + j] * 40, -127.0F, 127.0F)));
  }
  return bytes;
}

// One expert layer's products over one backend.
class Block {
 public:
  Block(const CpuSetting& setting, const Shape& shape, const std::string& bytes)
      : shape_(shape), ops_(MakeCpuOps(setting)) {
    for (int32_t e = 0; e < shape.num_experts; ++e) views_.push_back(View(e, bytes));
    auto experts = ops_->LoadExperts(views_, shape.num_experts);
    EXPECT_TRUE(experts.ok()) << experts.status();
    experts_ = *experts;
  }

  WeightView View(int32_t expert, const std::string& bytes) const {
    WeightView view{shape_.dtype, shape_.rows, shape_.cols, nullptr};
    view.data = bytes.data() + expert * view.rows * view.row_bytes();
    return view;
  }

  // residual + sum of weight * W x over the chosen experts.
  std::vector<float> Run(Matrix& x, Matrix& logits, Matrix& residual) {
    const int32_t places = x.rows * shape_.num_used;
    OwnedRouting routing(x.rows, shape_.num_experts, shape_.num_used);
    Matrix gathered(places, shape_.cols), products(places, shape_.rows), out(x.rows, shape_.rows);
    ops_->BeginStep(BatchView());
    ops_->RouteExperts(logits.view(), true, routing.view);
    ops_->GatherPlaces(x.view(), routing.view, gathered.view());
    ops_->ExpertMatMul(gathered.view(), experts_, routing.view, products.view());
    ops_->CombineExperts(products.view(), routing.view, residual.view(), out.view());
    EXPECT_TRUE(ops_->Finish().ok());
    return out.data;
  }

  [[nodiscard]] std::span<const WeightView> views() const { return views_; }

 private:
  Shape shape_;
  std::unique_ptr<Ops> ops_;
  std::vector<WeightView> views_;
  Experts experts_;
};

class ExpertsOf : public testing::TestWithParam<Shape> {};

TEST_P(ExpertsOf, TheirWeightedSumMatchesDoublePrecisionInEveryForm) {
  const Shape shape = GetParam();
  const std::string bytes = Bytes(shape, 1);
  for (const int32_t rows : {1, 3, 40}) {
    Matrix x(rows, shape.cols, 2), logits(rows, shape.num_experts, 3);
    Matrix residual(rows, shape.rows, 4);
    std::vector<float> first;
    for (const CpuSetting& setting : CpuSettings()) {
      SCOPED_TRACE(ToString(setting) + ", rows " + std::to_string(rows));
      Block block(setting, shape, bytes);
      const std::vector<float> out = block.Run(x, logits, residual);
      if (first.empty()) first = out;
      ASSERT_EQ(out, first);
      if (setting.isa != CpuIsa::kScalar || setting.threads != 1) continue;
      for (int32_t t = 0; t < rows; ++t) {
        Tensor row = x.view();
        row = {row.row(t), 1, row.cols, row.stride};
        std::vector<double> expected(residual.row(t).begin(), residual.row(t).end());
        std::vector<double> magnitude(expected.size());
        for (const auto& choice : reference::ChooseExperts(logits.row(t), shape.num_used, true)) {
          const std::span weight = block.views().subspan(static_cast<size_t>(choice.expert), 1);
          const std::vector<double> y = shape.dtype == DType::kF32
                                            ? reference::MatMul(row, weight)
                                            : reference::MatMulInt8(row, weight);
          const std::vector<double> m = reference::MatMulMagnitude(row, weight);
          for (size_t i = 0; i < y.size(); ++i) {
            expected[i] += choice.weight * y[i];
            magnitude[i] += choice.weight * m[i];
          }
        }
        // A product is a chain of cols roundings at most; the weights add 80, the sum num_used.
        for (size_t i = 0; i < expected.size(); ++i) {
          const double size = magnitude[i] + std::abs(residual.row(t)[i]);
          ASSERT_NEAR(out[static_cast<size_t>(t) * expected.size() + i], expected[i],
                      size * (shape.cols + 90) * 0x1p-24)
              << t << " " << i;
        }
      }
    }
  }
}

TEST_P(ExpertsOf, ARowsBitsDoNotDependOnItsNeighboursNorWhatTheyChoose) {
  const Shape shape = GetParam();
  Block block({BestCpuIsa(), 2}, shape, Bytes(shape, 1));
  constexpr int32_t kRows = 300;
  Matrix x(kRows, shape.cols, 2), logits(kRows, shape.num_experts, 3);
  for (int32_t t = 100; t < kRows; ++t) logits.row(t)[1] += 5;  // an expert of several chunks
  Matrix residual(kRows, shape.rows, 4);
  const std::vector<float> together = block.Run(x, logits, residual);
  for (const int32_t t : {0, 1, 99, 100, 250, 299}) {
    Matrix one_x(1, shape.cols), one_logits(1, shape.num_experts), one_residual(1, shape.rows);
    std::ranges::copy(x.row(t), one_x.data.begin());
    std::ranges::copy(logits.row(t), one_logits.data.begin());
    std::ranges::copy(residual.row(t), one_residual.data.begin());
    const std::vector<float> alone = block.Run(one_x, one_logits, one_residual);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + int64_t{t} * shape.rows))
        << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ExpertsOf,
                         testing::Values(Shape{DType::kF32, 4, 2, 32, 48},
                                         Shape{DType::kF32, 9, 3, 40, 100},
                                         Shape{DType::kQ8_0, 8, 2, 64, 80},
                                         Shape{DType::kQ8_0, 33, 8, 96, 17}));

TEST(Experts, OfUnequalShapesAreRefused) {
  const std::vector<float> values(64 * 48);
  const WeightView a{DType::kF32, 48, 32, values.data()};
  const WeightView b{DType::kF32, 32, 32, values.data()};
  const WeightView c{DType::kF16, 48, 32, values.data()};
  const auto ops = MakeCpuOps({BestCpuIsa(), 1});
  EXPECT_EQ(ops->LoadExperts(std::vector{a, b}, 2).status().message(),
            "expert 1 differs from expert 0 in shape or type");
  EXPECT_FALSE(ops->LoadExperts(std::vector{a, c}, 2).ok());
  EXPECT_FALSE(ops->LoadExperts(std::vector{a, a, a}, 2).ok());
  EXPECT_FALSE(ops->LoadExperts({}, 0).ok());
  EXPECT_TRUE(ops->LoadExperts(std::vector{a, b, a, b}, 2).ok());
}

TEST(AddGated, MatchesDoublePrecisionInEveryForm) {
  Matrix x(7, 50, 1), gate(7, 1, 2), residual(7, 50, 3);
  gate.data[1] = -40;
  gate.data[2] = 40;
  std::vector<float> first;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    Matrix out = residual;
    const auto ops = MakeCpuOps(setting);
    ops->BeginStep(BatchView());
    ops->AddGated(x.view(), gate.view(), out.view(), out.view());
    ASSERT_TRUE(ops->Finish().ok());
    if (first.empty()) first = out.data;
    EXPECT_EQ(out.data, first);
    for (int32_t t = 0; t < 7; ++t) {
      for (size_t i = 0; i < 50; ++i) {
        const double part =
            x.row(t)[i] / (1 + std::exp(-static_cast<double>(gate.data[static_cast<size_t>(t)])));
        ASSERT_NEAR(out.row(t)[i], part + residual.row(t)[i],
                    (std::abs(part) * 6 + std::abs(residual.row(t)[i])) * 0x1p-24);
      }
    }
  }
}

}  // namespace
}  // namespace sluice
