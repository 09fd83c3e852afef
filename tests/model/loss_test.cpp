// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/loss.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace isobar::loss_test {
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

TEST(WeightedMse, LetsMissingTargetsWeighNothing) {
  const at::Tensor target = at::arange(24, at::kDouble).view({2, 2, 2, 3}) / 7;
  const at::Tensor missing = at::arange(24).remainder(5).eq(1).view({2, 2, 2, 3});
  const at::Tensor prediction = (target * 3).requires_grad_();

  const at::Tensor loss = weighted_mse(prediction, target.masked_fill(missing, std::nan("")),
                                       area(), weights(), {.mask_missing = true});
  loss.backward();

  // The formula written out, with a weight of zero where a value is missing.
  const at::Tensor weight =
      area().view({2, 1}) * weights() * missing.logical_not().to(at::kDouble) / (4 * 3);
  const at::Tensor error = prediction.detach() - target;
  EXPECT_NEAR(loss.item<double>(), (weight * error.square()).sum().item<double>(), 1e-14);
  EXPECT_TRUE(at::allclose(prediction.grad(), 2 * weight * error, 1e-14, 0));
}

TEST(WeightedMse, IsTheSameMaskedWhereNothingIsMissing) {
  const at::Tensor target = at::arange(12, at::kDouble).view({2, 2, 3});

  EXPECT_TRUE(at::equal(weighted_mse(target * 3, target, area(), weights(), {.mask_missing = true}),
                        weighted_mse(target * 3, target, area(), weights())));
}

TEST(WeightedMse, DoesNotHideAPredictionThatIsNoNumber) {
  at::Tensor prediction = at::zeros({1, 2, 3});
  prediction[0][1][0] = std::nan("");
  const at::Tensor loss =
      weighted_mse(prediction, at::zeros({1, 2, 3}), area(), weights(), {.mask_missing = true});

  EXPECT_TRUE(std::isnan(loss.item<double>()));
}

TEST(WeightedMse, OfPartsOfTheGridSumsToThatOfAllOfIt) {
  const at::Tensor prediction = at::arange(12, at::kDouble).view({2, 2, 3});
  const at::Tensor target = at::ones({2, 2, 3}, at::kDouble);
  double sum = 0;
  for (const int64_t row : {0, 1}) {
    const auto part = [&](const at::Tensor& x) { return x.narrow(-2, row, 1); };
    sum += weighted_mse(part(prediction), part(target), area().narrow(0, row, 1), weights())
               .item<double>();
  }

  EXPECT_NEAR(sum, weighted_mse(prediction, target, area(), weights()).item<double>(), 1e-12);
}

TEST(WeightedMse, RejectsShapesThatDoNotFit) {
  const at::Tensor x = at::zeros({1, 2, 3});

  EXPECT_THROW(weighted_mse(x, at::zeros({1, 3, 2}), area(), weights()), UsageError);
  EXPECT_THROW(weighted_mse(x, x, weights(), weights()), UsageError);
  EXPECT_THROW(weighted_mse(x, x, area(), area()), UsageError);
}

}  // namespace
}  // namespace isobar::loss_test
