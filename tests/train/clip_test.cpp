// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/clip.hpp>

#include <isobar/comm/thread_world.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace isobar {
namespace {

NamedParameter with_gradient(std::vector<double> values,
                             Reduction reduction = Reduction::replicated) {
  auto tensor =
      at::zeros({static_cast<int64_t>(values.size())}, at::kDouble).set_requires_grad(true);
  tensor.mutable_grad() = at::tensor(values, at::kDouble);
  return {"p", tensor, reduction};
}

TEST(Clip, TakesTheNormOfAllGradients) {
  auto comm = make_self_communicator();
  ProcessGrid grid(*comm, 1);
  EXPECT_DOUBLE_EQ(gradient_norm({with_gradient({3}), with_gradient({0, 4})}, grid), 5);
}

TEST(Clip, CountsReplicatedGradientsOnceAndShardsOverTheirOwners) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    // One model's shards are 4 and sqrt(11); 3, 4 and sqrt(11) together have norm 6.
    const double shard = grid.model().rank() == 0 ? 4 : std::sqrt(11.0);
    EXPECT_DOUBLE_EQ(
        gradient_norm({with_gradient({3}), with_gradient({shard}, Reduction::sharded)}, grid), 6);
  });
}

TEST(Clip, ScalesOnlyWhatIsTooLong) {
  const auto parameter = with_gradient({3, 4});
  clip_by_norm({parameter}, 5, 10);
  EXPECT_TRUE(at::equal(parameter.tensor.grad(), at::tensor({3.0, 4.0}, at::kDouble)));
  clip_by_norm({parameter}, 5, 1);
  EXPECT_TRUE(at::allclose(parameter.tensor.grad(), at::tensor({0.6, 0.8}, at::kDouble), 1e-6));
}

TEST(Clip, LimitsValues) {
  const auto parameter = with_gradient({-3, 0.5, 4});
  clip_by_value({parameter}, 1);
  EXPECT_TRUE(at::equal(parameter.tensor.grad(), at::tensor({-1.0, 0.5, 1.0}, at::kDouble)));
}

}  // namespace
}  // namespace isobar
