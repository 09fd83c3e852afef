// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/loss.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace isobar {
namespace {

const at::Tensor& area() {
  static const at::Tensor value = at::tensor({0.25, 0.75}, at::kDouble);
  return value;
}

const at::Tensor& weights() {
  static const at::Tensor value = at::tensor({1., 8., 0.}, at::kDouble);
  return value;
}

TEST(WeightedMse, SumsOverPointsAndAveragesVariables) {
  // Errors of 2 and 1 at the two points: variable sums 1/4 * 4 + 3/4 * 1 = 7/4.
  const at::Tensor error = at::tensor({2., 2., 2., 1., 1., 1.}).view({2, 3});
  const at::Tensor target = at::full({2, 3}, 5.0);

  const at::Tensor loss = weighted_mse(target - error, target, area(), weights());

  EXPECT_EQ(loss.dim(), 0);
  EXPECT_EQ(loss.item<double>(), 1.75 * (1 + 8 + 0) / 3);
}

TEST(WeightedMse, AveragesOverLeadingDimensions) {
  const at::Tensor target = at::zeros({2, 2, 2, 3});
  at::Tensor prediction = at::zeros({2, 2, 2, 3});
  prediction[1][0].fill_(2);  // one of four steps: loss 4 * 9 / 3

  EXPECT_EQ(weighted_mse(prediction, target, area(), weights()).item<double>(), 12.0 / 4);
}

TEST(WeightedMse, HasTheGradientOfAWeightedSquare) {
  const at::Tensor prediction = at::ones({1, 2, 3}, at::kDouble).requires_grad_();
  weighted_mse(prediction, at::zeros({1, 2, 3}, at::kDouble), area(), weights()).backward();
  const at::Tensor wanted = at::outer(area(), weights()) * 2 / 3;

  EXPECT_TRUE(at::allclose(prediction.grad()[0], wanted, 1e-15, 0));
}

TEST(WeightedMse, RejectsShapesThatDoNotFit) {
  const at::Tensor x = at::zeros({1, 2, 3});

  EXPECT_THROW(weighted_mse(x, at::zeros({1, 3, 2}), area(), weights()), UsageError);
  EXPECT_THROW(weighted_mse(x, x, weights(), weights()), UsageError);
  EXPECT_THROW(weighted_mse(x, x, area(), area()), UsageError);
}

}  // namespace
}  // namespace isobar
