// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/flat_optimizer.hpp>

#include "core/message_of.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/data_parallel.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>
#include <gtest/gtest.h>

namespace isobar::flat_optimizer_test {
namespace {

constexpr double kRate = 0.0137;  // no power of two: products are rounded
const ReducerOptions kSmallBuckets{.caps = {.cap_bytes = 200, .first_cap_bytes = 64}};

/// Values without pattern between -1 and 1, the same for the same arguments.
at::Tensor values(const at::Tensor& like, double seed) {
  return (at::arange(like.numel(), at::kDouble) * 12.9898 + seed)
      .sin()
      .mul(43758.5453)
      .frac()
      .view(like.sizes())
      .to(like.scalar_type());
}

/// Sizes that fill no vector register evenly, one parameter that is never used, and one whose
/// memory is in another order than its shape.
std::vector<at::Tensor> make_parameters(at::ScalarType type) {
  std::vector<at::Tensor> result;
  const std::vector<std::vector<int64_t>> shapes{{7}, {3, 5}, {1}, {33}, {0}, {2, 3, 19}, {5}, {}};
  for (const auto& sizes : shapes) {
    auto tensor = at::zeros(sizes, type);
    tensor.copy_(values(tensor, static_cast<double>(result.size())));
    result.push_back(tensor);
  }
  result.push_back(at::empty_strided({9, 4}, {1, 9}, type));
  result.back().copy_(values(result.back(), 0.5));
  for (auto& tensor : result) tensor.requires_grad_(true);
  return result;
}

constexpr size_t kUnused = 6;

std::vector<NamedParameter> named(const std::vector<at::Tensor>& tensors) {
  std::vector<NamedParameter> result;
  for (const auto& tensor : tensors) {
    result.push_back(
        {std::string("p").append(std::to_string(result.size())), tensor, Reduction::replicated});
  }
  return result;
}

/// Gradients arrive in the order of the list, so that the buckets planned after the first step
/// are others than at first.
void backward(const std::vector<at::Tensor>& tensors, int step, int rank) {
  auto loss = at::zeros({}, tensors.front().options());
  for (size_t i = tensors.size(); i-- > 0;) {
    if (i == kUnused) continue;
    const double seed = step + 0.1 * static_cast<double>(i) + 0.01 * rank;
    loss = loss + (tensors[i] * values(tensors[i], seed)).sum();
  }
  loss.backward();
}

/// LibTorch's optimizer on copies of the parameters that get the same gradients.
class LibTorchOptimizer {
 public:
  LibTorchOptimizer(const std::vector<at::Tensor>& tensors, const FlatOptimizerOptions& options) {
    for (const auto& tensor : tensors) {
      copies_.push_back(tensor.detach().clone().requires_grad_(true));
    }
    if (options.rule == UpdateRule::sgd) {
      optimizer_ =
          std::make_unique<torch::optim::SGD>(copies_, torch::optim::SGDOptions(kRate)
                                                           .momentum(options.momentum)
                                                           .weight_decay(options.weight_decay));
    } else {
      optimizer_ =
          std::make_unique<torch::optim::AdamW>(copies_, torch::optim::AdamWOptions(kRate)
                                                             .betas({options.beta1, options.beta2})
                                                             .eps(options.epsilon)
                                                             .weight_decay(options.weight_decay));
    }
  }

  void step(const std::vector<at::Tensor>& tensors) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      copies_[i].mutable_grad() = tensors[i].grad().clone();
    }
    optimizer_->step();
  }

  /// The largest difference over the sizes of the values: 0 where all bits agree.
  double distance(const std::vector<at::Tensor>& tensors) const {
    double largest = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].numel() == 0 || at::equal(tensors[i], copies_[i])) continue;
      const auto difference = (tensors[i].detach() - copies_[i].detach()).abs().to(at::kDouble);
      const auto size = copies_[i].detach().abs().to(at::kDouble);
      largest = std::max(largest, (difference / (size + 0.1)).max().item<double>());
    }
    return largest;
  }

 private:
  std::vector<at::Tensor> copies_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

enum class When { in_finish, after_finish };

struct Case {
  const char* name;
  FlatOptimizerOptions options;
  at::ScalarType type;
  double tolerance;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

/// The largest distance from LibTorch's parameters over fifty steps.
double distance_over_steps(Communicator& comm, const Case& c, When when) {
  const auto tensors = make_parameters(c.type);
  LibTorchOptimizer reference(tensors, c.options);
  Reducer reducer(named(tensors), comm, kSmallBuckets);
  FlatOptimizer optimizer(reducer, c.options);
  double largest = 0;
  for (int step = 0; step < 50; ++step) {
    reducer.zero_grad();
    backward(tensors, step, comm.rank());
    if (step == 20) reducer.replan({.cap_bytes = 1000, .first_cap_bytes = 1000});
    if (when == When::in_finish) {
      reducer.finish(optimizer.on_bucket(kRate));
    } else {
      reducer.finish();
      optimizer.step(kRate);
    }
    reference.step(tensors);
    largest = std::max(largest, reference.distance(tensors));
  }
  EXPECT_GE(reducer.plan_version(), 3);
  return largest;
}

class FlatOptimizers : public testing::TestWithParam<Case> {};
const FlatOptimizerOptions kAdamw{};
const FlatOptimizerOptions kSgd{.rule = UpdateRule::sgd, .weight_decay = 0};
const FlatOptimizerOptions kMomentum{
    .rule = UpdateRule::sgd, .momentum = 0.9, .weight_decay = 0.013};
// LibTorch's sgd is the same operations on the same values, hence no difference at all. Its adamw
// rounds after each operation, the fused one in other places: some units in the last place. In
// bfloat16 its sgd too rounds in other places: half a unit of eight bits in each of fifty steps.
INSTANTIATE_TEST_SUITE_P(
    Rules, FlatOptimizers,
    testing::Values(Case{"AdamwFloat", kAdamw, at::kFloat, 1e-6},
                    Case{"AdamwDouble", kAdamw, at::kDouble, 2e-15},
                    Case{"SgdFloat", kSgd, at::kFloat, 0}, Case{"SgdDouble", kSgd, at::kDouble, 0},
                    Case{"MomentumFloat", kMomentum, at::kFloat, 0},
                    Case{"MomentumDouble", kMomentum, at::kDouble, 0},
                    Case{"MomentumBfloat16", kMomentum, at::kBFloat16, 50.0 / 512}),
    [](const auto& info) { return info.param.name; });

TEST_P(FlatOptimizers, EqualLibTorchsOverFiftySteps) {
  for (const int size : {1, 2}) {
    run_ranks(size, [](Communicator& comm) {
      for (const When when : {When::in_finish, When::after_finish}) {
        EXPECT_LE(distance_over_steps(comm, GetParam(), when), GetParam().tolerance);
      }
    });
  }
}

TEST_P(FlatOptimizers, GoOnFromASavedStateAsIfNothingHadHappened) {
  run_ranks(2, [](Communicator& comm) {
    const auto type = GetParam().type;
    const auto whole = make_parameters(type), halved = make_parameters(type);
    Reducer a(named(whole), comm, kSmallBuckets), b(named(halved), comm);
    FlatOptimizer one(a, GetParam().options);
    auto first = std::make_unique<FlatOptimizer>(b, GetParam().options);
    for (int step = 0; step < 8; ++step) {
      if (step == 3) {
        auto second = std::make_unique<FlatOptimizer>(b, GetParam().options);
        second->load(first->state());
        first = std::move(second);
      }
      for (auto* reducer : {&a, &b}) reducer->zero_grad();
      backward(whole, step, comm.rank());
      backward(halved, step, comm.rank());
      a.finish(one.on_bucket(kRate));
      b.finish(first->on_bucket(kRate));
    }
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(at::equal(whole[i], halved[i])) << i;
  });
}

/// A first update of bfloat16 parameters with the gradient `gradient`, and what float32 gives.
void expect_one_rounding(const FlatOptimizerOptions& options,
                         at::Tensor (*exact)(const at::Tensor& p, const at::Tensor& g)) {
  auto comm = make_self_communicator();
  auto parameter = values(at::zeros({37}, at::kBFloat16), 0).requires_grad_(true);
  const auto start = parameter.detach().clone(), gradient = values(start, 3);
  Reducer reducer({{"p", parameter}}, *comm);
  FlatOptimizer optimizer(reducer, options);
  (parameter * gradient).sum().backward();
  reducer.finish(optimizer.on_bucket(0.125));
  const auto wanted = exact(start.to(at::kFloat), gradient.to(at::kFloat));
  const auto error = (parameter.detach().to(at::kFloat) - wanted).abs();
  // Half a unit in the last of eight bits, and the float32 roundings before it.
  EXPECT_LE((error / wanted.abs()).max().item<double>(), 1.001 / 256);
  EXPECT_EQ(optimizer.state()[0].moments[0].second.scalar_type(), at::kBFloat16);
}

TEST(FlatOptimizer, ComputesSixteenBitsInThirtyTwoAndRoundsOnce) {
  // A first update of adamw is the gradient's sign times the rate, all moments being corrected.
  expect_one_rounding({.weight_decay = 0.25}, [](const at::Tensor& p, const at::Tensor& g) {
    return p * (1 - 0.125 * 0.25) - 0.125 * g / (g.abs() + 1e-8);
  });
  expect_one_rounding(
      {.rule = UpdateRule::sgd, .momentum = 0.9, .weight_decay = 0.3},
      [](const at::Tensor& p, const at::Tensor& g) { return p - 0.125 * (g + 0.3 * p); });
}

TEST(FlatOptimizer, UpdatesShardsOfAGrid) {
  run_ranks(4, [](Communicator& comm) {
    ProcessGrid grid(comm, 2);
    // Shards of different length, as rows that do not divide evenly.
    const auto shard = values(at::zeros({5 + grid.model().rank()}), grid.model().rank());
    const std::vector<at::Tensor> tensors{values(at::zeros({9}), 1).requires_grad_(true),
                                          shard.clone().requires_grad_(true)};
    LibTorchOptimizer reference(tensors, kMomentum);
    Reducer reducer(
        {{"shared", tensors[0], Reduction::partial}, {"shard", tensors[1], Reduction::sharded}},
        grid, kSmallBuckets);
    FlatOptimizer optimizer(reducer, kMomentum);
    for (int step = 0; step < 5; ++step) {
      reducer.zero_grad();
      ((tensors[0] * values(tensors[0], step)).sum() + (tensors[1] * values(shard, step)).sum())
          .backward();
      reducer.finish(optimizer.on_bucket(kRate));
      reference.step(tensors);
      EXPECT_EQ(reference.distance(tensors), 0);
    }
  });
}

TEST(FlatOptimizer, LaysParametersAndMomentsOutAsTheirGradients) {
  auto comm = make_self_communicator();
  const auto tensors = make_parameters(at::kFloat);
  Reducer reducer(named(tensors), *comm);
  FlatOptimizer optimizer(reducer);
  const auto offset = [](const at::Tensor& t) { return t.storage_offset(); };
  for (const size_t i : {0, 1, 3, 5, 8}) {
    EXPECT_TRUE(tensors[i].is_alias_of(tensors[0]));
    EXPECT_EQ(tensors[i].strides(), tensors[i].grad().strides());
    EXPECT_EQ(offset(tensors[i]) - offset(tensors[0]),
              offset(tensors[i].grad()) - offset(tensors[0].grad()));
  }
}

TEST(FlatOptimizer, KeepsWhatAParameterIs) {
  auto comm = make_self_communicator();
  auto parameter = values(at::zeros({6}), 1).requires_grad_(true);
  const auto before = parameter.detach().clone();
  const auto* impl = parameter.unsafeGetTensorImpl();
  Reducer reducer({{"p", parameter}}, *comm);
  FlatOptimizer optimizer(reducer);
  EXPECT_EQ(parameter.unsafeGetTensorImpl(), impl);
  EXPECT_TRUE(parameter.is_leaf() && parameter.requires_grad());
  EXPECT_TRUE(at::equal(parameter, before));
  EXPECT_FALSE(parameter.is_view());
  EXPECT_TRUE(optimizer.state().empty());
}

TEST(FlatOptimizer, CountsStepsByParameterWhereALoadedStateLacksSome) {
  auto comm = make_self_communicator();
  const auto tensors = make_parameters(at::kDouble);
  Reducer reducer(named(tensors), *comm);
  FlatOptimizer optimizer(reducer);
  const auto update = [&](int step) {
    reducer.zero_grad();
    backward(tensors, step, 0);
    reducer.finish(optimizer.on_bucket(kRate));
  };
  for (int step = 0; step < 3; ++step) update(step);
  auto states = optimizer.state();
  states.erase(states.begin() + 3);
  optimizer.load(states);
  const auto before = tensors[3].detach().clone();
  update(3);
  EXPECT_EQ(optimizer.state()[2].step, 4);
  EXPECT_EQ(optimizer.state()[3].step, 1);
  // A first update moves by the rate, whatever the gradient's size.
  const auto moved = tensors[3].detach() - before * (1 - kRate * 0.01);
  EXPECT_TRUE(at::allclose(moved.abs(), at::full_like(moved, kRate), 1e-5));
}

TEST(FlatOptimizer, RefusesAStateThatDoesNotFitAndKeepsItsOwn) {
  auto comm = make_self_communicator();
  auto parameter = at::ones({2}).requires_grad_(true);
  Reducer reducer({{"p", parameter}}, *comm);
  FlatOptimizer optimizer(reducer);
  parameter.sum().backward();
  reducer.finish(optimizer.on_bucket(kRate));
  const auto moment = at::zeros({3});
  EXPECT_EQ(test::message_of<DataError>([&] {
              optimizer.load({{"p", 5, {{"exp_avg", moment}, {"exp_avg_sq", moment}}}});
            }),
            "optimizer state 'p.exp_avg' has shape [3], the parameter [2]");
  EXPECT_EQ(test::message_of<DataError>([&] {
              optimizer.load({{"p", 5, {}}});
            }),
            "optimizer state of 'p' has no exp_avg");
  EXPECT_EQ(optimizer.state()[0].step, 1);
}

TEST(FlatOptimizer, RefusesParametersThatFitNoFlatBufferByName) {
  auto comm = make_self_communicator();
  const auto error_of = [&](at::Tensor tensor) {
    Reducer reducer({{"odd", tensor.requires_grad_(true)}}, *comm);
    return test::message_of<UsageError>([&] { FlatOptimizer optimizer(reducer); });
  };
  EXPECT_EQ(
      error_of(at::zeros({2}, at::kComplexFloat)),
      "FlatOptimizer: parameter 'odd' is of type ComplexFloat; wanted: floating-point, dense, "
      "on a CPU or CUDA device; use an optimizer that updates each parameter by itself");
  EXPECT_NE(error_of(at::zeros({4, 4}).slice(1, 0, 2)).find("has gaps or overlaps in memory"),
            std::string::npos);
}

TEST(FlatOptimizer, ServesDataParallel) {
  run_ranks(2, [](Communicator& comm) {
    const auto tensors = make_parameters(at::kFloat);
    struct Holder : torch::nn::Module {
      explicit Holder(const std::vector<at::Tensor>& list) {
        for (const auto& t : list)
          register_parameter(std::string("p").append(std::to_string(parameters().size())), t);
      }
    } module(tensors);
    LibTorchOptimizer reference(tensors, kSgd);
    DataParallel parallel(module, comm);
    FlatOptimizer optimizer(parallel.reducer(), kSgd);
    for (int step = 0; step < 3; ++step) {
      parallel.zero_grad();
      backward(tensors, step, comm.rank());
      parallel.finish(optimizer.on_bucket(kRate));
      reference.step(tensors);
    }
    EXPECT_EQ(reference.distance(tensors), 0);
  });
}

}  // namespace
}  // namespace isobar::flat_optimizer_test
