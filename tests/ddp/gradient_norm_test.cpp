// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/gradient_norm.hpp>

#include "core/message_of.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/reducer.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace isobar::gradient_norm_test {
namespace {

NamedParameter with_gradient(std::vector<double> values,
                             Reduction reduction = Reduction::replicated) {
  auto tensor =
      at::zeros({static_cast<int64_t>(values.size())}, at::kDouble).set_requires_grad(true);
  tensor.mutable_grad() = at::tensor(values, at::kDouble);
  return {"p", tensor, reduction};
}

TEST(GradientNorm, IsThatOfAllGradients) {
  auto comm = make_self_communicator();
  ProcessGrid grid(*comm, 1);
  EXPECT_DOUBLE_EQ(gradient_norm({with_gradient({3}), with_gradient({0, 4})}, grid), 5);
}

TEST(GradientNorm, CountsReplicatedGradientsOnceAndShardsOverTheirOwners) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    // One model's shards are 4 and sqrt(11); 3, 4 and sqrt(11) together have norm 6.
    const double shard = grid.model().rank() == 0 ? 4 : std::sqrt(11.0);
    EXPECT_DOUBLE_EQ(
        gradient_norm({with_gradient({3}), with_gradient({shard}, Reduction::sharded)}, grid), 6);
  });
}

TEST(GradientNorm, ScalesOnlyWhatIsTooLong) {
  const auto parameter = with_gradient({3, 4});
  clip_by_norm({parameter}, 5, 10);
  EXPECT_TRUE(at::equal(parameter.tensor.grad(), at::tensor({3.0, 4.0}, at::kDouble)));
  clip_by_norm({parameter}, 5, 1);
  EXPECT_TRUE(at::allclose(parameter.tensor.grad(), at::tensor({0.6, 0.8}, at::kDouble), 1e-6));
}

TEST(GradientNorm, LimitsValues) {
  const auto parameter = with_gradient({-3, 0.5, 4});
  clip_by_value({parameter}, 1);
  EXPECT_TRUE(at::equal(parameter.tensor.grad(), at::tensor({-1.0, 0.5, 1.0}, at::kDouble)));
}

TEST(GradientNorm, TakesEveryTypeAndLayoutInOnePass) {
  auto comm = make_self_communicator();
  ProcessGrid grid(*comm, 1);
  constexpr int64_t kMany = 200'000;  // more than a thread takes at once
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kComplexFloat}) {
    auto tensor = at::zeros({kMany + 3}, type).set_requires_grad(true);
    tensor.mutable_grad() = at::full({kMany + 3}, 2, type);
    EXPECT_DOUBLE_EQ(gradient_norm({{"p", tensor}}, grid), 2 * std::sqrt(kMany + 3.0));
  }
  auto strided = at::zeros({4, 2}).set_requires_grad(true);
  strided.mutable_grad() = at::ones({4, 6}).slice(1, 0, 6, 3);
  EXPECT_DOUBLE_EQ(gradient_norm({{"p", strided}}, grid), std::sqrt(8.0));
}

/// Three parameters under y = (x · weight).sum() + (x · table).sum() + bias · 3, and what a rank
/// of a model of `members` computes of it: its share of x, its rows of the table, all of the bias.
struct SplitModel {
  SplitModel(int members, int member) : share(6 / members), first(member * share) {
    table = at::ones({share}, at::kDouble).set_requires_grad(true);
  }
  at::Tensor partial_loss(const at::Tensor& x) const {
    const auto mine = x.narrow(0, first, share);
    return (mine * weight.narrow(0, first, share)).sum() + (mine * table).sum() + bias.sum() * 3;
  }
  std::vector<NamedParameter> parameters() const {
    return {{"weight", weight, Reduction::partial},
            {"table", table, Reduction::sharded},
            {"bias", bias, Reduction::replicated}};
  }
  int64_t share, first;
  at::Tensor weight = at::ones({6}, at::kDouble).set_requires_grad(true);
  at::Tensor bias = at::ones({2}, at::kDouble).set_requires_grad(true);
  at::Tensor table;
};

at::Tensor replica_input(int replica) { return at::arange(6, at::kDouble) + 2 * replica; }

/// Gradients of one process that saw the samples of both replicas.
SplitModel in_one_process() {
  SplitModel whole(1, 0);
  for (int replica = 0; replica < 2; ++replica) {
    (whole.partial_loss(replica_input(replica)) / 2).backward();
  }
  return whole;
}

TEST(ClipByNorm, RefusesANormThatIsNotFiniteWhereItIsAskedTo) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const auto plain = at::ones({2}).set_requires_grad(true);
  const auto culprit = at::ones({3}).set_requires_grad(true);
  plain.mutable_grad() = at::ones({2});
  culprit.mutable_grad() = at::tensor({1.0F, static_cast<float>(kInf), 2.0F});
  const std::vector<NamedParameter> parameters{{"plain", plain}, {"culprit", culprit}};
  const auto self = make_self_communicator();
  const double norm = gradient_norm(parameters, ProcessGrid(*self, 1));
  EXPECT_EQ(
      test::message_of<DataError>([&] { clip_by_norm(parameters, norm, 1, NonFinite::refused); }),
      "clip_by_norm: the gradients' norm is inf: the gradient of 'culprit' has 1 of 3 values "
      "that are not finite; leave the step out on every rank, or find what makes them");
  EXPECT_TRUE(at::equal(plain.grad(), at::ones({2})));
  clip_by_norm({parameters[0]}, std::sqrt(2.0), 5, NonFinite::refused);
  EXPECT_TRUE(at::equal(plain.grad(), at::ones({2})));
  clip_by_norm(parameters, norm, 1);  // as PyTorch
  EXPECT_TRUE(at::equal(plain.grad(), at::zeros({2})));
  EXPECT_TRUE(culprit.grad()[1].isnan().item<bool>());
}

class GradientNormGrids : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(RanksAModel, GradientNormGrids, testing::Values(1, 2, 3));

TEST_P(GradientNormGrids, AndClippingEqualThoseOfOneProcess) {
  const auto self = make_self_communicator();
  const auto whole = in_one_process();
  const double norm = gradient_norm(whole.parameters(), ProcessGrid(*self, 1));
  clip_by_norm(whole.parameters(), norm, 2);
  run_ranks(2 * GetParam(), [&](Communicator& comm) {
    ProcessGrid grid(comm, GetParam());
    SplitModel model(GetParam(), grid.model().rank());
    Reducer reducer(model.parameters(), grid, {.caps = {.cap_bytes = 64, .first_cap_bytes = 8}});
    for (int step = 0; step < 3; ++step) {  // buckets are planned again after the first
      reducer.zero_grad();
      model.partial_loss(replica_input(grid.data().rank())).backward();
      reducer.finish();
      EXPECT_EQ(gradient_norm(model.parameters(), grid), norm);
    }
    clip_by_norm(model.parameters(), norm, 2);
    EXPECT_TRUE(at::equal(model.weight.grad(), whole.weight.grad()));
    EXPECT_TRUE(at::equal(model.bias.grad(), whole.bias.grad()));
    EXPECT_TRUE(
        at::equal(model.table.grad(), whole.table.grad().narrow(0, model.first, model.share)));
    EXPECT_NEAR(gradient_norm(model.parameters(), grid), 2, 1e-6);  // norm + 1e-6, as PyTorch's
  });
}

}  // namespace
}  // namespace isobar::gradient_norm_test
