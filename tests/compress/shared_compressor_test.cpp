// SPDX-License-Identifier: Apache-2.0
// A compressor remembers one reducer's gradients: who else may have it, and when.
#include <isobar/ddp/compressor.hpp>

#include "core/message_of.hpp"

#include <isobar/compress/block_int8.hpp>
#include <isobar/compress/half_precision.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <torch/nn/module.h>
#include <gtest/gtest.h>

#include "comm/expect_error.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::shared_compressor_test {
namespace {

using namespace test;

class SharedCompressors : public testing::TestWithParam<std::string> {
 protected:
  static std::shared_ptr<Compressor> compressor() {
    if (GetParam() == "int8") return make_block_int8({});
    if (GetParam() == "half") return make_half_precision({});
    const auto method = GetParam() == "acp" ? Method::acp : Method::power;
    return make(method, {.matrix_approximation_rank = 2, .start_step = 0});
  }
};
INSTANTIATE_TEST_SUITE_P(All, SharedCompressors, testing::Values("acp", "power", "int8", "half"),
                         [](const auto& info) { return info.param; });

struct Net : torch::nn::Module {
  explicit Net(bool has_first = true, int64_t rows = 16) {
    if (has_first) first = register_parameter("first", at::ones({12, 12}, at::kDouble));
    weight = register_parameter("weight", at::ones({rows, 16}, at::kDouble));
  }
  at::Tensor first, weight;
};

void step(DataParallel& parallel, const Net& net, Communicator& comm, int number) {
  parallel.zero_grad();
  auto loss = at::zeros({}, at::kDouble);
  uint64_t seed = 3;
  for (const auto& tensor : net.parameters()) {
    if (!tensor.requires_grad()) continue;
    loss = loss + (tensor * draw(tensor.sizes(), seed++, number, comm.rank())).sum();
  }
  loss.backward();
  parallel.finish();
}

TEST_P(SharedCompressors, OfTwoLiveWrappersAreRefusedByName) {
  run_ranks(2, [](Communicator& comm) {
    for (const int64_t rows : {16, 20}) {
      const auto shared = compressor();
      Net one, other(true, rows);
      DataParallel first(one, comm, {.reducer = {.compressor = shared}});
      const auto said = message_of<UsageError>(
          [&] { DataParallel second(other, comm, {.reducer = {.compressor = shared}}); });
      expect_contains(said, "the compressor " + shared->description());
      expect_contains(said, " already serves the DataParallel of '");
      // Which goes on, as if nobody had tried.
      Net twin;
      DataParallel alone(twin, comm, {.reducer = {.compressor = compressor()}});
      for (int i = 0; i < 3; ++i) {
        step(first, one, comm, i);
        step(alone, twin, comm, i);
        EXPECT_TRUE(at::equal(one.weight.grad(), twin.weight.grad())) << i;
      }
    }
  });
}

TEST_P(SharedCompressors, OfRanksThatAreThreadsAreRefused) {
  const auto shared = compressor();
  run_ranks(2, [&](Communicator& comm) {
    Net net;
    const auto said = message_of<UsageError>(
        [&] { DataParallel parallel(net, comm, {.reducer = {.compressor = shared}}); });
    expect_contains(said, " already serves ");
    expect_contains(said, "on each rank");
  });
}

TEST_P(SharedCompressors, GoOverToALaterWrapperOfTheSameModule) {
  run_ranks(2, [](Communicator& comm) {
    for (const bool made_first : {true, false}) {
      const auto shared = compressor();
      Net net, twin;
      auto parallel = std::make_unique<DataParallel>(
          net, comm, DataParallelOptions{.reducer = {.compressor = shared}});
      DataParallel alone(twin, comm, {.reducer = {.compressor = compressor()}});
      for (int i = 0; i < 6; ++i) {
        if (i == 3) {
          if (!made_first) parallel.reset();
          parallel = std::make_unique<DataParallel>(
              net, comm, DataParallelOptions{.reducer = {.compressor = shared}});
        }
        step(*parallel, net, comm, i);
        step(alone, twin, comm, i);
        EXPECT_TRUE(at::allclose(net.weight.grad(), twin.weight.grad(), 1e-12, 1e-13)) << i;
        EXPECT_TRUE(at::allclose(net.first.grad(), twin.first.grad(), 1e-12, 1e-13)) << i;
      }
    }
  });
}

TEST_P(SharedCompressors, StayWithTheEarlierWrapperWhereALaterOneCannotBeMade) {
  run_ranks(2, [](Communicator& comm) {
    const auto shared = compressor();
    Net net, twin;
    DataParallel parallel(net, comm, {.reducer = {.compressor = shared}});
    DataParallel alone(twin, comm, {.reducer = {.compressor = compressor()}});
    for (int i = 0; i < 5; ++i) {
      if (i == 2) {
        EXPECT_THROW(
            DataParallel(net, comm,
                         {.reducer = {.compressor = shared}, .compare_parameters_every = -1}),
            UsageError);
      }
      step(parallel, net, comm, i);
      step(alone, twin, comm, i);
      EXPECT_TRUE(at::allclose(net.weight.grad(), twin.weight.grad(), 1e-12, 1e-13)) << i;
    }
  });
}

/// What is remembered belongs to a parameter, not to its place in a list.
TEST_P(SharedCompressors, RememberParametersByNameAndShape) {
  run_ranks(2, [](Communicator& comm) {
    const auto shared = compressor();
    Net net;
    net.first.requires_grad_(false);
    auto parallel = std::make_unique<DataParallel>(
        net, comm, DataParallelOptions{.reducer = {.compressor = shared}});
    for (int i = 0; i < 2; ++i) step(*parallel, net, comm, i);
    const auto before = remembered(*shared, "weight.residual");
    net.first.requires_grad_(true);  // which comes before it from now on
    parallel = std::make_unique<DataParallel>(
        net, comm, DataParallelOptions{.reducer = {.compressor = shared}});
    const auto after = remembered(*shared, "weight.residual");
    EXPECT_EQ(before.defined(), after.defined());
    if (before.defined()) EXPECT_TRUE(at::equal(before, after));
    const auto of_first = remembered(*shared, "first.residual");
    if (of_first.defined()) EXPECT_FALSE(of_first.any().item<bool>());
    step(*parallel, net, comm, 2);

    parallel.reset();
    Net other(false, 40);
    DataParallel last(other, comm, {.reducer = {.compressor = shared}});
    const auto of_other = remembered(*shared, "weight.residual");
    if (of_other.defined()) EXPECT_FALSE(of_other.any().item<bool>());
    step(last, other, comm, 3);
  });
}

}  // namespace
}  // namespace isobar::shared_compressor_test
