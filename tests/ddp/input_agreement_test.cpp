// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/input_agreement.hpp>

#include "core/message_of.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/reducer.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace isobar::input_agreement_test {
namespace {

/// Samples that each rank has in an epoch: different everywhere, rank 1 has none.
int64_t samples_of(int rank, int epoch) { return std::vector<int64_t>{5, 0, 1, 9}[rank] + epoch; }

int64_t samples_before(int rank, int epoch) {
  int64_t before = 0;
  for (int r = 0; r < rank; ++r) before += samples_of(r, epoch);
  return before;
}

/// One weight a sample of the epoch; a sample's gradient is 1 in its own place, so that one
/// lost or doubled shows there and nowhere else.
class OneHotModel {
 public:
  OneHotModel(Communicator& comm, int epoch)
      : comm_(comm),
        first_(samples_before(comm.rank(), epoch)),
        weight_(
            at::zeros({samples_before(comm.size(), epoch)}, at::kDouble).set_requires_grad(true)),
        reducer_({{"weight", weight_}}, comm) {}

  /// The mean loss of `count` samples from `from` on, or of one placeholder. All ranks meet in
  /// the forward pass.
  at::Tensor mean_loss(int64_t from, int64_t count) {
    auto present = at::ones({1});
    comm_.allreduce(present).wait();
    EXPECT_EQ(present.item<float>(), static_cast<float>(comm_.size()));
    if (count == 0) return weight_.mean();
    return weight_.narrow(0, first_ + from, count).mean();
  }

  void step(const at::Tensor& loss, int64_t total) {
    reducer_.zero_grad();
    loss.backward();
    reducer_.finish();
    seen_ = seen_ + weight_.grad() * static_cast<double>(total);
  }

  const at::Tensor& weight() const { return weight_; }
  /// How often each sample has counted.
  const at::Tensor& seen() const { return seen_; }

 private:
  Communicator& comm_;
  int64_t first_;
  at::Tensor weight_;
  Reducer reducer_;
  at::Tensor seen_ = at::zeros({}, at::kDouble);
};

/// Runs an epoch in batches of up to two and returns its steps.
int64_t run_epoch(Communicator& comm, InputAgreement& inputs, int epoch) {
  constexpr int64_t kBatch = 2;
  OneHotModel model(comm, epoch);
  const int64_t mine = samples_of(comm.rank(), epoch);
  const auto batch_at = [&](int64_t from) { return std::clamp<int64_t>(mine - from, 0, kBatch); };
  inputs.start(batch_at(0));
  int64_t steps = 0;
  for (auto step = inputs.finish(); step.any(); step = inputs.finish()) {
    const int64_t from = steps++ * kBatch;
    const auto loss = step.weight * model.mean_loss(from, batch_at(from));
    inputs.start(batch_at(from + kBatch));
    model.step(loss, step.total_samples);
  }
  // A weight of n/total is rounded when total is no power of two, hence not equal to the bit.
  EXPECT_TRUE(at::allclose(model.seen(), at::ones_like(model.weight()), 0, 1e-14));
  return steps;
}

class InputAgreementWorlds : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, InputAgreementWorlds, testing::Values(1, 2, 3, 4));

TEST_P(InputAgreementWorlds, CountsEverySampleOnceAndStopsAllRanksTogether) {
  run_ranks(GetParam(), [](Communicator& comm) {
    InputAgreement inputs(comm);
    for (int epoch = 0; epoch < 3; ++epoch) {
      int64_t most = 0;
      for (int r = 0; r < comm.size(); ++r) most = std::max(most, samples_of(r, epoch));
      EXPECT_EQ(run_epoch(comm, inputs, epoch), (most + 1) / 2);
    }
  });
}

TEST(InputAgreement, WeighsARanksMeanByItsShareOfTheSamples) {
  run_ranks(4, [](Communicator& comm) {
    InputAgreement inputs(comm);
    inputs.start(std::vector<int64_t>{4, 0, 1, 3}[comm.rank()]);
    const auto step = inputs.finish();
    EXPECT_EQ(step.total_samples, 8);
    EXPECT_EQ(step.weight, (std::vector<double>{2, 0, 0.5, 1.5})[comm.rank()]);
  });
}

TEST(InputAgreement, CountsAModelsSamplesOnce) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    InputAgreement inputs(grid);
    inputs.start(grid.data().rank() == 0 ? 3 : 1);
    const auto step = inputs.finish();
    EXPECT_EQ(step.total_samples, 4);
    EXPECT_EQ(step.weight, grid.data().rank() == 0 ? 1.5 : 0.5);
  });
}

TEST(InputAgreement, StopsWhereNobodyHasSamples) {
  run_ranks(3, [](Communicator& comm) {
    InputAgreement inputs(comm);
    inputs.start(0);
    const auto step = inputs.finish();
    EXPECT_FALSE(step.any());
    EXPECT_EQ(step.weight, 0);
  });
}

TEST(InputAgreement, HoldsMoreSamplesThanThirtyTwoBits) {
  run_ranks(2, [](Communicator& comm) {
    InputAgreement inputs(comm);
    inputs.start(int64_t{3} << 40);
    EXPECT_EQ(inputs.finish().total_samples, int64_t{6} << 40);
  });
}

TEST(InputAgreement, NamesTheRankThatDiffersFromItsModelOnEveryRank) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    InputAgreement inputs(grid);
    inputs.start(comm.rank() == 3 ? 2 : 4);
    EXPECT_EQ(test::message_of<UsageError>([&] { inputs.finish(); }),
              "InputAgreement: step 0: rank 3 of 4 has 2 samples, rank 2 of the same model has 4; "
              "give all ranks of a model the same samples");
  });
}

TEST(InputAgreement, RefusesANegativeNumberOnEveryRank) {
  run_ranks(2, [](Communicator& comm) {
    InputAgreement inputs(comm);
    inputs.start(-comm.rank());
    EXPECT_EQ(test::message_of<UsageError>([&] { inputs.finish(); }),
              "InputAgreement: step 0: rank 1 of 2 has -1 samples, wanted 0 or more");
  });
}

TEST(InputAgreement, WantsStartAndFinishInTurn) {
  const auto comm = make_self_communicator();
  InputAgreement inputs(*comm);
  EXPECT_THROW(inputs.finish(), UsageError);
  inputs.start(1);
  EXPECT_THROW(inputs.start(1), UsageError);
  EXPECT_EQ(inputs.finish().total_samples, 1);
}

}  // namespace
}  // namespace isobar::input_agreement_test
