// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/initialize.hpp>
#include <isobar/model/mlp.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace isobar::initialize_test {
namespace {

constexpr MlpOptions kSmall{.in = 3, .hidden = 4, .out = 5};

at::Tensor weight(const Mlp& mlp, const std::string& name) { return mlp.named_parameters()[name]; }

/// A module whose parameters are given by name.
struct Plain : torch::nn::Module {
  explicit Plain(const std::string& name, std::vector<int64_t> shape) {
    register_parameter(name, at::full(shape, 9.0));
  }
};

TEST(InitializeParameters, GivesTheValuesOfTheDocumentedGenerator) {
  // From a few lines of Python after the header.
  Mlp mlp(kSmall);
  initialize_parameters(mlp, 42);
  const at::Tensor first = weight(mlp, "mlp.0.weight").flatten();

  EXPECT_EQ(first[0].item<float>(), 0.11334401864721759f);
  EXPECT_EQ(first[1].item<float>(), 0.505382125027583f);
  EXPECT_EQ(first[11].item<float>(), -0.4567466517012743f);
  EXPECT_EQ(weight(mlp, "mlp.0.bias")[3].item<float>(), -0.49101843775547915f);
}

TEST(InitializeParameters, RoundsTheSameValuesToEachType) {
  Mlp narrow(kSmall), wide(kSmall);
  wide.to(at::kDouble);
  initialize_parameters(narrow, 1);
  initialize_parameters(wide, 1);

  for (size_t i = 0; i < wide.parameters().size(); ++i) {
    EXPECT_TRUE(at::equal(wide.parameters()[i].to(at::kFloat), narrow.parameters()[i]));
  }
  EXPECT_FALSE(
      at::equal(weight(wide, "mlp.0.weight"), weight(narrow, "mlp.0.weight").to(at::kDouble)));
}

TEST(InitializeParameters, LooksAtNothingButSeedNameAndPosition) {
  Mlp small(kSmall), longer({.in = 3, .hidden = 4, .out = 50});
  initialize_parameters(small, 1);
  initialize_parameters(longer, 1);
  const at::Tensor before = weight(small, "mlp.4.weight").clone();
  initialize_parameters(small, 1);

  EXPECT_TRUE(at::equal(weight(small, "mlp.2.weight"), weight(longer, "mlp.2.weight")));
  EXPECT_TRUE(
      at::equal(weight(small, "mlp.4.weight"), weight(longer, "mlp.4.weight").slice(0, 0, 5)));
  EXPECT_TRUE(at::equal(weight(small, "mlp.4.weight"), before));
  initialize_parameters(small, 2);
  EXPECT_FALSE(at::equal(weight(small, "mlp.4.weight"), before));
}

TEST(InitializeParameters, FillsPyTorchsRangeEvenly) {
  Mlp mlp({.in = 100, .hidden = 1000, .out = 5});
  initialize_parameters(mlp, 5);
  const at::Tensor x = weight(mlp, "mlp.0.weight").to(at::kDouble) * 10;  // within [-1, 1)

  // 100,000 draws: the mean's deviation is 0.0018, the second moment's 0.0009.
  EXPECT_LE(x.abs().max().item<double>(), 1);
  EXPECT_GT(x.abs().max().item<double>(), 0.999);
  EXPECT_NEAR(x.mean().item<double>(), 0, 0.008);
  EXPECT_NEAR(x.square().mean().item<double>(), 1. / 3, 0.004);
  EXPECT_LE(weight(mlp, "mlp.0.bias").abs().max().item<float>(), 0.1f);
  EXPECT_NEAR((x[0] * x[1]).mean().item<double>(), 0, 0.15);
}

TEST(InitializeParameters, LetsNormsStartAsTheIdentity) {
  Mlp mlp(kSmall);
  {
    const at::NoGradGuard no_gradient;
    for (const auto& parameter : mlp.parameters()) parameter.fill_(3);
  }
  initialize_parameters(mlp, 1);

  EXPECT_TRUE(at::equal(weight(mlp, "layer_norm.weight"), at::ones({5})));
  EXPECT_TRUE(at::equal(weight(mlp, "layer_norm.bias"), at::zeros({5})));
}

TEST(InitializeParameters, ZeroesTables) {
  Plain module("data_table", {4, 2});
  initialize_parameters(module, 1);

  EXPECT_TRUE(at::equal(module.parameters()[0], at::zeros({4, 2})));
}

TEST(InitializeParameters, NamesAParameterThatItHasNoRuleFor) {
  Plain module("scale", {4});
  try {
    initialize_parameters(module, 1);
    FAIL() << "an unknown parameter was accepted";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("parameter scale"), std::string::npos);
  }
}

TEST(InitializeParameters, LeavesTheProcesssGeneratorAlone) {
  at::manual_seed(3);
  const at::Tensor wanted = at::rand({4});
  at::manual_seed(3);
  Mlp mlp(kSmall);
  initialize_parameters(mlp, 1);

  EXPECT_TRUE(at::equal(at::rand({4}), wanted));
}

}  // namespace
}  // namespace isobar::initialize_test
