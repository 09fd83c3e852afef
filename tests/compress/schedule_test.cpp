// SPDX-License-Identifier: Apache-2.0
// When compression starts, and what it saves.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "compress/gradients.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::schedule_test {
namespace {

using namespace test;

class Schedule : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(All, Schedule, kMethods);

TEST_P(Schedule, StepsBeforeTheFirstAreAsWithoutACompressor) {
  run_ranks(3, [&](Communicator& comm) {
    const auto compressor = make(GetParam(), {.matrix_approximation_rank = 2, .start_step = 4});
    CompressedModel model(matrices_and_dense(at::kFloat), comm, compressor);
    CompressedModel plain(matrices_and_dense(at::kFloat), comm, nullptr);
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < 7; ++step) {
      model.step(gradients(step, comm.rank()));
      plain.step(gradients(step, comm.rank()));
      for (size_t p = 0; p < model.parameters.size(); ++p) {
        const bool is_dense = p == 2 || p == 5;
        EXPECT_EQ(at::equal(model.grad(p), plain.grad(p)), step < 4 || is_dense)
            << step << " " << p;
      }
      EXPECT_EQ(model.reducer.counters().compressed_steps, std::max<int64_t>(0, step - 3));
    }
  });
}

TEST_P(Schedule, OneReplicaIsNotCompressed) {
  run_ranks(1, [&](Communicator& comm) {
    CompressedModel model(matrices_and_dense(), comm, make(GetParam(), {.start_step = 0}));
    const auto given = random_gradients(model.parameters)(0, 0);
    model.step(given);
    for (size_t p = 0; p < given.size(); ++p) EXPECT_TRUE(at::equal(model.grad(p), given[p]));
    EXPECT_EQ(model.reducer.counters().compressed_steps, 0);
  });
}

TEST_P(Schedule, WarnsThatNothingWasCompressedWhereNobodyLooked) {
  const auto said = [&](int ranks, int64_t start_step, const std::function<void(Reducer&)>& look) {
    testing::internal::CaptureStderr();
    run_ranks(ranks, [&](Communicator& comm) {
      CompressedModel model({parameter("weight", {8, 8}, at::kFloat)}, comm,
                            make(GetParam(), {.start_step = start_step}));
      model.step({at::ones({8, 8})});
      look(model.reducer);
    });
    return testing::internal::GetCapturedStderr();
  };
  const auto nobody = [](Reducer&) {};
  const auto late = said(2, 1000, nobody);
  EXPECT_NE(late.find("warning: none of 1 steps was compressed by "), std::string::npos) << late;
  EXPECT_NE(late.find("start 1000"), std::string::npos) << late;
  EXPECT_EQ(std::count(late.begin(), late.end(), '\n'), 1) << "one rank speaks";
  EXPECT_NE(said(1, 0, nobody).find("one replica"), std::string::npos);
  EXPECT_EQ(said(2, 0, nobody), "");
  EXPECT_EQ(said(2, 1000, [](Reducer& reducer) { reducer.counters(); }), "");
}

TEST_P(Schedule, CountsWhatIsSentInstead) {
  run_ranks(4, [&](Communicator& comm) {
    CompressedModel model({parameter("weight", {1024, 1024}, at::kFloat)}, comm,
                          make(GetParam(), {.start_step = 1, .compare_every = 1}));
    const auto given = at::ones({1024, 1024});
    constexpr int64_t kBytes = 4 << 20;
    model.step({given});
    EXPECT_EQ(model.reducer.counters().payload_bytes, kBytes);
    EXPECT_EQ(model.reducer.counters().sent_bytes, kBytes * 3 / 2);
    for (int step = 0; step < 4; ++step) model.step({given});
    const auto& counters = model.reducer.counters();
    const int64_t less = GetParam() == Method::acp ? 256 : 128;
    EXPECT_EQ(counters.compressed_steps, 4);
    EXPECT_EQ(counters.gradient_bytes, 5 * kBytes);
    EXPECT_EQ(counters.payload_bytes - kBytes, 4 * kBytes / less);
    EXPECT_EQ(counters.sent_bytes - kBytes * 3 / 2, 6 * kBytes / less);
    EXPECT_EQ(counters.collectives, 5);
  });
}

TEST_P(Schedule, CountsDenseValuesOnce) {
  run_ranks(2, [&](Communicator& comm) {
    CompressedModel model(
        {parameter("weight", {64, 32}, at::kFloat), parameter("bias", {10}, at::kFloat)}, comm,
        make(GetParam(), {.start_step = 0}));
    for (int step = 0; step < 2; ++step) model.step({at::ones({64, 32}), at::ones({10})});
    const int64_t factors = 4 * (64 + 32) * (GetParam() == Method::acp ? 1 : 2);
    EXPECT_EQ(model.reducer.counters().payload_bytes, 4 * (factors + 2 * 10));
  });
}

}  // namespace
}  // namespace isobar::schedule_test
