// SPDX-License-Identifier: Apache-2.0
// Factors that each rank computes by itself have to be the same everywhere.
#include <isobar/core/error.hpp>
#include <gtest/gtest.h>

#include <atomic>

#include "compress/gradients.hpp"
#include "compress/low_rank_buckets.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"
#include "ddp/exact.hpp"

namespace isobar::agreement_test {
namespace {

using namespace test;

class FactorAgreement : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(All, FactorAgreement, kMethods);

/// What each of three ranks is told when rank 1's options are others.
std::vector<std::string> refusals(const std::function<std::shared_ptr<Compressor>(int)>& make_on) {
  return errors_of(
      [&](Communicator& comm) {
        CompressedModel model({parameter("weight", {12, 10})}, comm, make_on(comm.rank()));
      },
      3);
}

TEST_P(FactorAgreement, OptionsThatDifferAreAUsageErrorOnEveryRank) {
  const LowRankOptions usual;
  std::vector<LowRankOptions> others(6, usual);
  others[0].seed = 1;
  others[1].matrix_approximation_rank = 5;
  others[2].start_step = 1001;
  others[3].min_compression_rate = 3;
  others[4].refresh_every = 7;
  others[5].compare_every = 1;
  for (const auto& other : others) {
    for (const auto& message :
         refusals([&](int rank) { return make(GetParam(), rank == 1 ? other : usual); })) {
      EXPECT_NE(message.find("compressor"), std::string::npos) << message;
      EXPECT_NE(message.find(name_of(GetParam())), std::string::npos) << message;
    }
  }
}

TEST_P(FactorAgreement, ACompressorOnSomeRanksOnlyIsAUsageErrorOnEveryRank) {
  for (const auto& message :
       refusals([&](int rank) { return rank == 1 ? nullptr : make(GetParam(), {}); })) {
    EXPECT_NE(message.find("none"), std::string::npos) << message;
  }
  for (const auto& message :
       refusals([&](int rank) { return make(rank == 1 ? Method::power : Method::acp, {}); })) {
    EXPECT_NE(message.find("power_sgd"), std::string::npos) << message;
  }
}

TEST_P(FactorAgreement, FirstFactorsAreThoseOfTheSeedAndTheName) {
  std::vector<at::Tensor> factors(4);
  run_ranks(4, [&](Communicator& comm) {
    const auto compressor = make(GetParam(), {.matrix_approximation_rank = 2, .seed = 8});
    CompressedModel model(matrices_and_dense(), comm, compressor);
    factors[comm.rank()] = remembered(*compressor, "square.factor");
  });
  for (const auto& factor : factors) EXPECT_TRUE(at::equal(factor, factors[0]));
  const auto options = at::TensorOptions(at::kDouble);
  const auto of = [&](uint64_t seed, const std::string& name) {
    return random_factor({2, 12}, seed, name, 0, options);
  };
  EXPECT_TRUE(at::equal(factors[0], of(8, "square 0")));
  EXPECT_FALSE(at::allclose(factors[0], of(9, "square 0")));
  EXPECT_FALSE(at::allclose(factors[0], of(8, "circle 0")));
}

/// The number of steps, of eight, until each of three ranks throws; rank 1 loads another
/// factor after `changed_after` steps if that is not negative.
std::vector<int> steps_until_error(Method method, int64_t changed_after, double change,
                                   at::ScalarType type) {
  std::vector<int> steps(3, -1);
  run_ranks(3, [&](Communicator& comm) {
    const auto compressor =
        make(method, {.matrix_approximation_rank = 2, .start_step = 0, .compare_every = 3});
    CompressedModel model(matrices_and_dense(type), comm, compressor,
                          {.caps = {.cap_bytes = 3000, .first_cap_bytes = 1000}});
    const auto gradients = random_gradients(model.parameters);
    for (int step = 0; step < 8; ++step) {
      try {
        model.step(gradients(step, comm.rank()));
      } catch (const CommError&) {
        throw;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("differ"), std::string::npos) << error.what();
        steps[comm.rank()] = step;
        return;
      }
      if (step != changed_after) continue;
      auto state = compressor->state();
      for (auto& [name, tensor] : state.tensors) {
        if (name == "tall.factor" && comm.rank() == 1) tensor[1][1] += change;
      }
      compressor->load(state);
    }
  });
  return steps;
}

// What ACP-SGD loads is the next step's basis. PowerSGD's only basis is that of a sum.
TEST_P(FactorAgreement, ABasisThatDiffersIsAnErrorOnEveryRankWhereItIsCompared) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    // Steps 0, 3 and 6 compare.
    const bool is_basis = GetParam() == Method::acp;
    EXPECT_EQ(steps_until_error(GetParam(), 2, 1, type), std::vector<int>(3, is_basis ? 3 : -1));
    EXPECT_EQ(steps_until_error(GetParam(), 5, 1e-3, type), std::vector<int>(3, is_basis ? 6 : -1));
  }
}

TEST(PowerSgdAgreement, RanksStayEqualEvenIfTheirRightFactorsAreNot) {
  std::vector<at::Tensor> updates(3);
  run_ranks(3, [&](Communicator& comm) {
    const auto compressor = make_power_sgd({.matrix_approximation_rank = 2, .start_step = 0});
    CompressedModel model(matrices_and_dense(), comm, compressor);
    auto state = compressor->state();
    for (auto& [name, tensor] : state.tensors) tensor += comm.rank();
    compressor->load(state);
    model.step(random_gradients(model.parameters)(0, comm.rank()));
    updates[comm.rank()] = model.grad(0);
  });
  for (const auto& update : updates) EXPECT_TRUE(at::equal(update, updates[0]));
}

TEST_P(FactorAgreement, EqualFactorsPass) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    EXPECT_EQ(steps_until_error(GetParam(), 3, 0, type), std::vector<int>(3, -1));
  }
}

TEST(Fingerprint, TellsAnyRankThatDiffersInFloat32) {
  auto values = at::zeros({900}, at::kFloat);
  const BucketPiece piece{values, {{0, 0, 0, 900, 30}}, 1};
  auto bucket = make_low_rank_bucket(piece, {parameter("p", {30, 30}, at::kFloat)}, {});
  const auto number = [&](int ranks) {
    return fingerprint(bucket, Side::left, ranks).to(at::kFloat);
  };
  for (const int ranks : {2, 3, 5, 64, 1000}) {
    bucket.matrices[0].left.zero_();
    auto sum = number(ranks) * (ranks - 1), all = sum + number(ranks);
    EXPECT_TRUE(agree(all, ranks));
    bucket.matrices[0].left[0][0] = 1e-7F;
    EXPECT_FALSE(agree(sum + number(ranks), ranks)) << ranks;
  }
}

}  // namespace
}  // namespace isobar::agreement_test
