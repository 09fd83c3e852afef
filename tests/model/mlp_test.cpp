// SPDX-License-Identifier: Apache-2.0
#include <isobar/model/initialize.hpp>
#include <isobar/model/mlp.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace isobar {
namespace {

/// In float64, with weights that are not the initial ones.
Mlp filled(const MlpOptions& options) {
  Mlp mlp(options);
  initialize_parameters(mlp, 7);
  mlp.to(at::kDouble);
  return mlp;
}

/// [rows, columns] of distinct values around 0.
at::Tensor values(int64_t rows, int64_t columns) {
  return at::arange(rows * columns, at::kDouble).view({rows, columns}).mul(0.7).sin();
}

TEST(Mlp, NamesItsParametersAsAnemoiDoes) {
  const Mlp mlp({.in = 3, .hidden = 4, .out = 5});
  std::vector<std::string> names;
  for (const auto& parameter : mlp.named_parameters()) names.push_back(parameter.key());

  EXPECT_EQ(names, (std::vector<std::string>{"mlp.0.weight", "mlp.0.bias", "mlp.2.weight",
                                             "mlp.2.bias", "mlp.4.weight", "mlp.4.bias",
                                             "layer_norm.weight", "layer_norm.bias"}));
  EXPECT_EQ(mlp.named_parameters()["mlp.0.weight"].sizes(), (std::vector<int64_t>{4, 3}));
  EXPECT_EQ(mlp.named_parameters()["mlp.4.weight"].sizes(), (std::vector<int64_t>{5, 4}));
}

TEST(Mlp, HasNoLayerNormWhereNoneIsAskedFor) {
  const Mlp mlp({.in = 3, .hidden = 4, .out = 5, .layer_norm = false});

  EXPECT_EQ(mlp.parameters().size(), 6u);
  EXPECT_TRUE(at::equal(mlp.forward(at::ones({2, 3})), at::zeros({2, 5})));
}

TEST(Mlp, AddsUpFromProjectionsOfItsInputs) {
  const Mlp mlp = filled({.in = 9, .hidden = 4, .out = 5});
  const at::Tensor x = values(6, 9);
  const at::Tensor first = mlp.project(x.narrow(1, 0, 2), 0) + mlp.project(x.narrow(1, 2, 7), 2);

  // float64, sums of nine in another order.
  EXPECT_TRUE(at::allclose(mlp.from_projection(first), mlp.forward(x), 0, 1e-13));
}

TEST(Mlp, ProjectsARepeatedInputAsItsConcatenation) {
  const Mlp mlp = filled({.in = 8, .hidden = 4, .out = 5});
  const at::Tensor x = values(6, 4);

  EXPECT_TRUE(at::allclose(mlp.from_projection(mlp.project_repeated(x)),
                           mlp.forward(at::cat({x, x}, 1)), 0, 1e-13));
}

}  // namespace
}  // namespace isobar
