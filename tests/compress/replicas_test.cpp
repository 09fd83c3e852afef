// SPDX-License-Identifier: Apache-2.0
// Replicas of a model stay the same to the bit, whatever the buckets.
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::replicas_test {
namespace {

using namespace test;

constexpr int kSteps = 30;

/// A network of two layers, the rank's own samples, and SGD.
struct Network {
  std::vector<NamedParameter> parameters;
  at::Tensor input, target;

  Network(int rank, at::ScalarType type) {
    const auto add = [&](const std::string& name, at::IntArrayRef sizes) {
      const auto values = draw(sizes, fnv1a(name), 0).to(type) * 0.3;
      parameters.push_back({name, values.detach().set_requires_grad(true)});
    };
    add("in.weight", {24, 10});
    add("in.bias", {24});
    add("hidden.weight", {20, 24});
    add("hidden.bias", {20});
    add("out.weight", {8, 20});
    input = draw({16, 10}, 1, 0, rank).to(type);
    target = draw({16, 8}, 2, 0, rank).to(type);
  }
  const at::Tensor& at(size_t i) const { return parameters[i].tensor; }
  void backward() const {
    const auto first = at::tanh(at::addmm(at(1), input, at(0).t()));
    const auto second = at::tanh(at::addmm(at(3), first, at(2).t()));
    (at::mm(second, at(4).t()) - target).pow(2).sum().backward();
  }
  void update() const {
    const c10::NoGradGuard no_grad;
    for (const auto& p : parameters) at::Tensor(p.tensor).sub_(p.tensor.grad(), 0.003);
  }
};

/// The parameters of each rank after the steps, one after another.
std::vector<at::Tensor> trained(Method method, int ranks, const BucketCaps& caps,
                                at::ScalarType type) {
  std::vector<at::Tensor> result(ranks);
  run_ranks(ranks, [&](Communicator& comm) {
    const Network network(comm.rank(), type);
    const auto compressor =
        make(method, {.matrix_approximation_rank = 2, .start_step = 3, .compare_every = 7});
    Reducer reducer(network.parameters, comm, {.caps = caps, .compressor = compressor});
    for (int step = 0; step < kSteps; ++step) {
      reducer.zero_grad();
      network.backward();
      reducer.finish();
      network.update();
    }
    std::vector<at::Tensor> flat;
    for (const auto& p : network.parameters) flat.push_back(p.tensor.detach().flatten());
    result[comm.rank()] = at::cat(flat);
  });
  return result;
}

const std::vector<BucketCaps> kCaps{
    {}, {.cap_bytes = 1, .first_cap_bytes = 1}, {.cap_bytes = 2500, .first_cap_bytes = 700}};

class Replicas : public testing::TestWithParam<std::tuple<Method, int>> {};
INSTANTIATE_TEST_SUITE_P(All, Replicas, testing::Combine(kMethods, testing::Values(2, 3, 4, 5)));

TEST_P(Replicas, StayTheSameToTheBit) {
  const auto [method, ranks] = GetParam();
  for (const auto& caps : kCaps) {
    const auto parameters = trained(method, ranks, caps, at::kFloat);
    EXPECT_TRUE(at::isfinite(parameters[0]).all().item<bool>());
    for (const auto& own : parameters) EXPECT_TRUE(at::equal(own, parameters[0]));
  }
}

// To the bit where ranks are summed in their order, since each matrix is computed by itself.
TEST_P(Replicas, DoNotDependOnTheBuckets) {
  const auto [method, ranks] = GetParam();
  const auto first = trained(method, ranks, kCaps[0], at::kDouble)[0];
  for (const auto& caps : kCaps) {
    EXPECT_TRUE(at::equal(trained(method, ranks, caps, at::kDouble)[0], first));
  }
}

}  // namespace
}  // namespace isobar::replicas_test
