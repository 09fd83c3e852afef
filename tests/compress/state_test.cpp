// SPDX-License-Identifier: Apache-2.0
// What is saved is all that the following steps depend on.
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include "compress/gradients.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::state_test {
namespace {

using namespace test;

constexpr LowRankOptions kRankTwo{.matrix_approximation_rank = 2, .start_step = 2};
const ReducerOptions kSmallBuckets{.caps = {.cap_bytes = 3000, .first_cap_bytes = 1000}};

void expect_equal(const CompressorState& a, const CompressorState& b) {
  EXPECT_EQ(a.counts, b.counts);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) {
    const auto other =
        std::find_if(b.tensors.begin(), b.tensors.end(),
                     [&, key = name](const auto& entry) { return entry.first == key; });
    ASSERT_NE(other, b.tensors.end()) << name;
    EXPECT_TRUE(at::equal(tensor, other->second)) << name;
  }
}

class CompressorStates
    : public testing::TestWithParam<std::tuple<Method, at::ScalarType, int64_t>> {
 protected:
  static Method method() { return std::get<0>(GetParam()); }
  static at::ScalarType type() { return std::get<1>(GetParam()); }
  static int64_t saved_after() { return std::get<2>(GetParam()); }

  /// Steps up to saved_after().
  static void run_up(CompressedModel& model, int rank) {
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < saved_after(); ++step) model.step(gradients(step, rank));
  }
};
INSTANTIATE_TEST_SUITE_P(All, CompressorStates,
                         testing::Combine(kMethods, testing::Values(at::kFloat, at::kDouble),
                                          testing::Values(1, 2, 5, 6)));

TEST_P(CompressorStates, ContinueToTheBitInNewObjects) {
  run_ranks(3, [&](Communicator& comm) {
    const auto before = make(method(), kRankTwo), after = make(method(), kRankTwo);
    CompressedModel model(matrices_and_dense(type()), comm, before, kSmallBuckets);
    run_up(model, comm.rank());
    CompressedModel fresh(matrices_and_dense(type()), comm, after, kSmallBuckets);
    after->load(before->state());
    expect_equal(after->state(), before->state());
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = saved_after(); step < saved_after() + 5; ++step) {
      model.step(gradients(step, comm.rank()));
      fresh.step(gradients(step, comm.rank()));
      for (size_t p = 0; p < model.parameters.size(); ++p) {
        EXPECT_TRUE(at::equal(model.grad(p), fresh.grad(p))) << step << " " << p;
      }
    }
    expect_equal(after->state(), before->state());
  });
}

TEST_P(CompressorStates, AreReadWithoutAChange) {
  run_ranks(2, [&](Communicator& comm) {
    const auto read = make(method(), kRankTwo), untouched = make(method(), kRankTwo);
    CompressedModel model(matrices_and_dense(type()), comm, read);
    CompressedModel twin(matrices_and_dense(type()), comm, untouched);
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < saved_after() + 3; ++step) {
      model.step(gradients(step, comm.rank()));
      twin.step(gradients(step, comm.rank()));
      for (auto& [name, tensor] : read->state().tensors) tensor.fill_(7);  // copies
      EXPECT_TRUE(at::equal(model.grad(0), twin.grad(0)));
    }
    expect_equal(read->state(), untouched->state());
  });
}

TEST_P(CompressorStates, OfAnotherShapeAreRefusedAndChangeNothing) {
  run_ranks(2, [&](Communicator& comm) {
    const auto compressor = make(method(), kRankTwo), other = make(method(), kRankTwo);
    CompressedModel model(matrices_and_dense(type()), comm, compressor);
    run_up(model, comm.rank());
    const auto before = compressor->state();
    CompressedModel square({parameter("square", {13, 13}, type())}, comm, other);
    auto state = other->state();
    EXPECT_THROW(compressor->load(state), DataError);
    state.tensors.clear();
    state.counts.erase("steps");
    EXPECT_THROW(compressor->load(state), DataError);
    expect_equal(compressor->state(), before);
  });
}

TEST_P(CompressorStates, MayHoldUnknownNamesAndLackOthers) {
  run_ranks(2, [&](Communicator& comm) {
    const auto compressor = make(method(), kRankTwo), other = make(method(), kRankTwo);
    CompressedModel model(matrices_and_dense(type()), comm, compressor);
    run_up(model, comm.rank());
    auto state = compressor->state();
    state.tensors.emplace_back("nobody.residual", at::ones({5, 5}));
    std::erase_if(state.tensors, [](const auto& entry) { return entry.first == "wide.residual"; });
    CompressedModel fresh(matrices_and_dense(type()), comm, other);
    other->load(state);
    EXPECT_EQ(other->state().counts, compressor->state().counts);
    EXPECT_TRUE(
        at::equal(remembered(*other, "tall.residual"), remembered(*compressor, "tall.residual")));
    EXPECT_EQ(remembered(*other, "wide.residual").norm().item<double>(), 0);
    fresh.step(random_gradients(fresh.parameters)(0, comm.rank()));
  });
}

TEST_P(CompressorStates, OfAnotherRankKeepTheResidualsAndStartFactorsAnew) {
  run_ranks(2, [&](Communicator& comm) {
    auto options = kRankTwo;
    options.matrix_approximation_rank = 1;
    const auto compressor = make(method(), kRankTwo), other = make(method(), options);
    CompressedModel model(matrices_and_dense(type()), comm, compressor);
    run_up(model, comm.rank());
    CompressedModel narrow(matrices_and_dense(type()), comm, other);
    const auto unsaved = remembered(*other, "wide.factor");
    other->load(compressor->state());
    EXPECT_TRUE(
        at::equal(remembered(*other, "wide.residual"), remembered(*compressor, "wide.residual")));
    const auto factor = remembered(*other, "wide.factor");
    EXPECT_EQ(std::min(factor.size(0), factor.size(1)), 1);
    EXPECT_GT(factor.norm().item<double>(), 0);
    const auto gradients = random_gradients(narrow.parameters);
    for (int64_t step = 0; step < 3; ++step) narrow.step(gradients(step, comm.rank()));
  });
}

TEST_P(CompressorStates, AverageToTheSameUpdates) {
  run_ranks(3, [&](Communicator& comm) {
    const auto own = make(method(), kRankTwo), shared = make(method(), kRankTwo);
    CompressedModel model(matrices_and_dense(type()), comm, own);
    CompressedModel twin(matrices_and_dense(type()), comm, shared);
    run_up(model, comm.rank());
    run_up(twin, comm.rank());
    average_residuals(*shared, comm);
    const double tolerance = type() == at::kFloat ? 1e-4 : 1e-12;
    auto sum = remembered(*own, "tall.residual");
    comm.allreduce(sum).wait();
    EXPECT_TRUE(at::allclose(sum / 3, remembered(*shared, "tall.residual"), tolerance, tolerance));
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = saved_after(); step < saved_after() + 5; ++step) {
      model.step(gradients(step, comm.rank()));
      twin.step(gradients(step, comm.rank()));
      for (size_t p = 0; p < model.parameters.size(); ++p) {
        EXPECT_TRUE(at::allclose(model.grad(p), twin.grad(p), tolerance, tolerance)) << step;
      }
    }
  });
}

}  // namespace
}  // namespace isobar::state_test
