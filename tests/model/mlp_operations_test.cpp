// SPDX-License-Identifier: Apache-2.0
// What a GPU computes, on the CPU: the same as the loops that the CPU has.
#include "model/mlp_operations.hpp"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace isobar::mlp_operations_test {
namespace {

/// More than a block of rows, and no multiple of one.
constexpr int64_t kRows = 150, kNodes = 7, kDepth = 5, kWidth = 6;

/// Distinct values in [-1, 1] that no other phase gives.
at::Tensor values(at::IntArrayRef shape, double phase) {
  const at::Tensor empty = at::empty(shape, at::kDouble);
  return at::arange(empty.numel(), at::kDouble).mul(0.7).add(phase).sin().view(shape);
}

at::Tensor rows(double phase, int64_t width = kWidth) { return values({kRows, width}, phase); }
at::Tensor nothing(int64_t width = kWidth) { return at::empty({kRows, width}, at::kDouble); }
at::Tensor zeros(at::IntArrayRef shape) { return at::zeros(shape, at::kDouble); }

/// A node for each row.
at::Tensor index(int64_t first) { return at::arange(kRows).mul(3).remainder(kNodes).add(first); }

void expect_same(const std::vector<at::Tensor>& by_operations,
                 const std::vector<at::Tensor>& by_loops) {
  for (size_t i = 0; i < by_loops.size(); ++i) {
    EXPECT_TRUE(at::allclose(by_operations[i], by_loops[i], 1e-6, 1e-6))
        << i << ": " << (by_operations[i] - by_loops[i]).abs().max();
  }
}

TEST(MlpOperations, HaveLoopsToBeComparedWith) {
  EXPECT_TRUE(has_loops(rows(1)));
  EXPECT_FALSE(has_loops(rows(1).to(at::kHalf)));
}

TEST(MlpOperations, GiveTheSameLinear) {
  const at::Tensor x = rows(1, kDepth);
  const Matrix matrix(values({kDepth, kWidth}, 2));
  for (const at::Tensor& start : {at::Tensor(), values({kWidth}, 3), rows(3)}) {
    at::Tensor a = nothing(), b = nothing();
    operations::linear({x, matrix}, start, a);
    linear({x, matrix}, start, b);
    expect_same({a}, {b});
  }
  at::Tensor a = rows(4), b = rows(4);
  operations::linear({x, matrix}, a, a);
  linear({x, matrix}, b, b);
  expect_same({a}, {b});
}

TEST(MlpOperations, GiveTheSameGeluOfSeveralProducts) {
  const Matrix first(values({kDepth, kWidth}, 1)), second(values({2, kWidth}, 2));
  const std::vector<Operand> operands{{rows(3, kDepth), first}, {rows(4, 2), second}};
  const at::Tensor bias = values({kWidth}, 5);
  at::Tensor a = nothing(), a_activated = nothing(), b = nothing(), b_activated = nothing();
  operations::linear_gelu(operands, bias, a, a_activated);
  linear_gelu(operands, bias, b, b_activated, GeluLeaves::rows);
  expect_same({a, a_activated}, {b, b_activated});
}

TEST(MlpOperations, GiveTheSameGeluOfGatheredRows) {
  const at::Tensor near = values({kNodes, kWidth}, 1), far = values({kNodes, kWidth}, 2);
  const Gathered gathered{near, index(11), 11, far, index(0)};
  at::Tensor a = rows(3), a_activated = nothing(), b = rows(3), b_activated = nothing();
  operations::gather_gelu(a, gathered, a_activated);
  gather_gelu(b, near, gathered.near_row, 11, far, gathered.far_row, b_activated, GeluLeaves::rows);
  expect_same({a, a_activated}, {b, b_activated});
}

TEST(MlpOperations, GiveTheSameLayerNorm) {
  const NormWeights norm{values({kWidth}, 1), values({kWidth}, 2)};
  for (const at::Tensor& residual : {at::Tensor(), rows(3)}) {
    at::Tensor a = nothing(), b = nothing();
    operations::layer_norm(rows(4), norm, residual, a);
    layer_norm(rows(4), norm.weight, norm.shift, residual, b);
    expect_same({a}, {b});
  }
}

TEST(MlpOperations, GiveTheSameGradientsOfLayerNorm) {
  const auto sums = [] {
    return NormSums{values({kWidth}, 1), values({kWidth}, 2), values({kWidth}, 3)};
  };
  const at::Tensor weight = values({kWidth}, 4);
  at::Tensor a = nothing(), b = nothing();
  NormSums a_sums = sums(), b_sums = sums();
  operations::layer_norm_backward(rows(5), weight, rows(6), a, a_sums);
  layer_norm_backward(rows(5), weight, rows(6), b, b_sums);
  expect_same({a, a_sums.weight, a_sums.shift, a_sums.input},
              {b, b_sums.weight, b_sums.shift, b_sums.input});
}

TEST(MlpOperations, GiveTheSameGradientsOfGelu) {
  const Matrix matrix(values({kDepth, kWidth}, 1));
  const Operand above{rows(2, kDepth), matrix};
  at::Tensor a = nothing(), a_sums = values({kWidth}, 3);
  at::Tensor b = nothing(), b_sums = values({kWidth}, 3), activated = nothing();
  operations::linear_backward(above, rows(4), a, a_sums);
  linear_backward_gelu(above, rows(4), activated, b, b_sums);
  expect_same({a, a_sums, at::gelu(rows(4))}, {b, b_sums, activated});
}

bool has_denormal(const at::Tensor& x) {
  constexpr double kSmallest = std::numeric_limits<float>::min();
  return x.abs().gt(0).logical_and(x.abs().lt(kSmallest)).any().item<bool>();
}

// Products with denormal numbers take some processors a hundred times as long.
TEST(MlpLoops, LeaveNoDenormalNumbersFarBelowZero) {
  const Matrix same(at::ones({1, 1}));
  const at::Tensor x = at::arange(-40, 10, 0.01, at::kFloat).view({-1, 1});
  const at::Tensor gradient = at::full_like(x, 1e-12);
  at::Tensor activated = at::empty_like(x), below = at::empty_like(x);
  at::Tensor slope = at::empty_like(x), again = at::empty_like(x), sums = zeros({1});
  linear_gelu({{x, same}}, at::zeros(1), slope, again, GeluLeaves::slope);
  linear_backward_gelu({gradient, same}, x, activated, below, sums);
  for (const auto& values : {activated, below, slope, again}) EXPECT_FALSE(has_denormal(values));
  EXPECT_LT((again - at::gelu(x)).abs().max().item<double>(), 1e-6);
}

TEST(MlpOperations, GiveTheSameRowsOfNodes) {
  const at::Tensor nodes = values({kNodes, kWidth}, 1);
  for (const at::Tensor& base : {at::Tensor(), rows(2)}) {
    at::Tensor a = nothing(), b = nothing();
    operations::add_gathered(base, nodes, index(3), 3, a);
    add_gathered(base, nodes, index(3), 3, b);
    expect_same({a}, {b});
  }
}

TEST(MlpOperations, GiveTheSameSumsOfSegments) {
  // The third is empty.
  const at::Tensor offsets = at::tensor(std::vector<int64_t>{20, 25, 95, 95, 20 + kRows});
  at::Tensor a = zeros({4, kWidth}), b = zeros({4, kWidth});
  operations::sum_segments(rows(1), offsets, a);
  sum_segments(rows(1), offsets, b);
  expect_same({a}, {b});

  const at::Tensor order = at::arange(kRows - 1, -1, -1).add(40);
  const at::Tensor nodes = at::tensor(std::vector<int64_t>{5, 0, 2, 6});
  at::Tensor a_sums = values({kNodes, kWidth}, 2), b_sums = values({kNodes, kWidth}, 2);
  operations::add_segments(rows(1), order, 40, offsets, nodes, a_sums);
  add_segments(rows(1), order, 40, offsets, nodes, b_sums);
  expect_same({a_sums}, {b_sums});
}

TEST(MlpOperations, GiveTheSameGradientsOfWeights) {
  const at::Tensor a = values({kWidth, kDepth}, 1), b = values({kWidth, kDepth}, 1);
  operations::add_product({a, rows(2), rows(3, kDepth)});
  add_products({{b, rows(2), rows(3, kDepth)}});
  expect_same({a}, {b});
}

// Of each call they are the product of its rows in its type; over calls they do not lose what 16
// bits would: 256 + 1 is 256 in bfloat16.
TEST(MlpOperations, SumGradientsOfWeightsInFloat64OverCalls) {
  const at::Tensor sum = zeros({1, 1});
  const at::Tensor one = at::ones({1, 1}, at::kBFloat16);
  operations::add_product({sum, one * 256, one});
  operations::add_product({sum, one, one});
  EXPECT_EQ(sum.item<double>(), 257);
}

}  // namespace
}  // namespace isobar::mlp_operations_test
