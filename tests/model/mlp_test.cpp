// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/model/initialize.hpp>
#include <isobar/model/mlp.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace isobar::mlp_test {
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

at::Tensor by_operations(const Mlp& mlp, at::Tensor x) {
  const auto p = mlp.ordered_parameters();
  x = at::gelu(at::linear(x, p[0], p[1]));
  x = at::linear(at::gelu(at::linear(x, p[2], p[3])), p[4], p[5]);
  return p.size() > 6 ? at::layer_norm(x, p[6].sizes(), p[6], p[7], 1e-5) : x;
}

/// Inputs and parameters of an Mlp, and their gradients by one way to compute it.
struct Trial {
  explicit Trial(const MlpOptions& options) : mlp(filled(options)) {
    x.requires_grad_();
    shared.requires_grad_();
  }

  std::vector<at::Tensor> gradients(const at::Tensor& result) {
    result.pow(3).sum().backward();
    std::vector<at::Tensor> all{x.grad(), shared.grad()};
    for (const at::Tensor& parameter : mlp.parameters()) all.push_back(parameter.grad());
    return all;
  }

  Mlp mlp;
  at::Tensor x = values(14, 5).view({2, 7, 5}).clone();            // two samples
  at::Tensor shared = values(7, 4).add(0.3).unsqueeze(0).clone();  // of both
};

TEST(Mlp, GivesWhatItsOperationsGive) {
  for (const bool norm : {true, false}) {
    const Mlp mlp = filled({.in = 9, .hidden = 4, .out = 5, .layer_norm = norm});
    EXPECT_TRUE(
        at::allclose(mlp.forward(values(6, 9)), by_operations(mlp, values(6, 9)), 0, 1e-13));
  }
}

TEST(Mlp, GivesTheGradientsOfItsOperations) {
  for (const bool norm : {true, false}) {
    for (const auto activations : {Activations::keep, Activations::recompute}) {
      // Chunks of three rows: the last of seven is short.
      for (const int64_t chunk : {0, 3}) {
        const MlpOptions options{.in = 9, .hidden = 4, .out = 5, .layer_norm = norm};
        Trial ours(options), theirs(options);
        const auto got = ours.gradients(
            ours.mlp.forward({ours.x, ours.shared},
                             {.residual = true, .activations = activations, .chunk_rows = chunk}));
        const auto wanted = theirs.gradients(
            theirs.x +
            by_operations(theirs.mlp, at::cat({theirs.x, theirs.shared.expand({2, -1, -1})}, 2)));

        for (size_t i = 0; i < got.size(); ++i) {
          EXPECT_TRUE(at::allclose(got[i], wanted[i], 1e-10, 1e-11)) << i << ' ' << norm << chunk;
        }
      }
    }
  }
}

TEST(Mlp, ProjectsARepeatedInputAsItsConcatenation) {
  const Mlp mlp = filled({.in = 8, .hidden = 4, .out = 5});
  const at::Tensor x = values(6, 4).unsqueeze(0);

  EXPECT_TRUE(at::allclose(mlp.forward_repeated(x, {}), mlp.forward(at::cat({x, x}, 2)), 0, 1e-13));
}

// 2^-8 is bfloat16's rounding; sums over few channels of a few values each.
TEST(Mlp, ComputesIn16BitsOverFloat32Parameters) {
  Mlp mlp({.in = 9, .hidden = 16, .out = 16});
  initialize_parameters(mlp, 7);
  const at::Tensor x = values(6, 9).to(at::kFloat);
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor got = mlp.forward(x.to(type));
    got.to(at::kFloat).square().sum().backward();

    EXPECT_EQ(got.scalar_type(), type);
    EXPECT_TRUE(at::allclose(got.to(at::kFloat), mlp.forward(x), 0, 0.08));
    EXPECT_EQ(mlp.ordered_parameters()[0].grad().scalar_type(), at::kFloat);
  }
}

/// The gradients of its parameters where a third of the rows pulls one way, a third the other, and
/// the rest decides.
std::vector<at::Tensor> gradients_that_cancel(Mlp& mlp, at::ScalarType type, Activations how) {
  const int64_t third = 4096;
  mlp.to(type);
  const at::Tensor x = values(1, 3).expand({3 * third, 3}).to(type);
  const at::Tensor weight =
      at::tensor({4096.0, 1.0 / 4096, -4096.0}, type).repeat_interleave(third);
  const at::Tensor result = mlp.forward({x.unsqueeze(0)}, {.activations = how});
  (result * weight.view({1, -1, 1})).sum().backward();
  std::vector<at::Tensor> gradients;
  for (auto& parameter : mlp.parameters()) {
    gradients.push_back(parameter.grad().to(at::kDouble));
    parameter.mutable_grad() = at::Tensor();
  }
  return gradients;
}

TEST(Mlp, SumsGradientsThatCancelOverManyRows) {
  for (const bool norm : {false, true}) {
    auto mlp = filled({.in = 3, .hidden = 16, .out = 5, .layer_norm = norm});
    const auto wanted = gradients_that_cancel(mlp, at::kDouble, Activations::keep);
    for (const auto how : {Activations::keep, Activations::recompute}) {
      const auto got = gradients_that_cancel(mlp, at::kFloat, how);
      for (size_t i = 0; i < wanted.size(); ++i) {
        EXPECT_TRUE(at::allclose(got[i], wanted[i], 1e-4, 1e-5)) << i << (norm ? ", norm" : "");
      }
    }
  }
}

TEST(Mlp, RejectsPartsThatDoNotFit) {
  const Mlp mlp({.in = 3, .hidden = 4, .out = 5});

  EXPECT_THROW(mlp.forward({at::ones({1, 2, 2})}, {}), UsageError);
  EXPECT_THROW(mlp.forward({at::ones({1, 2, 2}), at::ones({1, 3, 1})}, {}), UsageError);
}

}  // namespace
}  // namespace isobar::mlp_test
