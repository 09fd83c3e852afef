// SPDX-License-Identifier: Apache-2.0
// Whatever starts a bucket and whoever takes it, the gradients are the same.
#include <isobar/core/error.hpp>
#include <isobar/ddp/flat_optimizer.hpp>
#include <gtest/gtest.h>

#include <functional>

#include "compress/gradients.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"

namespace isobar::launch_test {
namespace {

using namespace test;

class Launches : public testing::TestWithParam<Method> {
 protected:
  static std::shared_ptr<Compressor> compressor() {
    return make(GetParam(), {.matrix_approximation_rank = 2, .start_step = 1});
  }
  static ReducerOptions small_buckets(Launch launch) {
    return {.caps = {.cap_bytes = 3000, .first_cap_bytes = 1000}, .launch = launch};
  }
};
INSTANTIATE_TEST_SUITE_P(All, Launches, kMethods);

TEST_P(Launches, CountedAndAtFinishGiveTheSameBits) {
  run_ranks(3, [&](Communicator& comm) {
    std::vector<std::unique_ptr<CompressedModel>> models;
    for (const auto launch : {Launch::first_gradient, Launch::counted, Launch::at_finish}) {
      models.push_back(std::make_unique<CompressedModel>(matrices_and_dense(), comm, compressor(),
                                                         small_buckets(launch)));
    }
    const auto gradients = random_gradients(models[0]->parameters);
    for (int64_t step = 0; step < 8; ++step) {
      for (const auto& model : models) model->step(gradients(step, comm.rank()));
      for (size_t p = 0; p < models[0]->parameters.size(); ++p) {
        EXPECT_TRUE(at::equal(models[1]->grad(p), models[0]->grad(p))) << step << " " << p;
        EXPECT_TRUE(at::equal(models[2]->grad(p), models[0]->grad(p))) << step << " " << p;
      }
    }
    EXPECT_GT(models[0]->reducer.counters().launched_in_backward, 0);
    EXPECT_EQ(models[2]->reducer.counters().launched_in_backward, 0);
  });
}

TEST_P(Launches, ReduceGradientsInMemoryOfTheCallers) {
  run_ranks(2, [&](Communicator& comm) {
    CompressedModel plain(matrices_and_dense(), comm, compressor());
    CompressedModel own(matrices_and_dense(), comm, compressor());
    std::vector<at::Tensor> kept;
    for (auto& [name, tensor, reduction] : own.parameters) {
      kept.push_back(at::zeros_like(tensor));
      tensor.mutable_grad() = kept.back();
    }
    const auto gradients = random_gradients(plain.parameters);
    for (int64_t step = 0; step < 6; ++step) {
      plain.step(gradients(step, comm.rank()));
      for (auto& grad : kept) grad.zero_();
      own.backward(gradients(step, comm.rank()));
      own.reducer.finish();
      for (size_t p = 0; p < kept.size(); ++p) {
        EXPECT_TRUE(at::equal(kept[p], plain.grad(p))) << step << " " << p;
        EXPECT_TRUE(own.grad(p).is_same(kept[p])) << step << " " << p;
      }
    }
  });
}

/// The gradients of what a cat joins are views of one tensor, and share its version.
TEST_P(Launches, TakeGradientsThatAreViewsOfOneTensor) {
  run_ranks(2, [&](Communicator& comm) {
    for (const auto launch : {Launch::first_gradient, Launch::counted, Launch::at_finish}) {
      const auto made = [] { return at::ones({4, 4}, at::kDouble).set_requires_grad(true); };
      CompressedModel model({{"a", made()}, {"b", made()}}, comm, compressor(), {.launch = launch});
      const auto pass = [&] {
        const auto joined = at::cat({model.parameters[0].tensor, model.parameters[1].tensor});
        (joined * at::arange(8, at::kDouble).view({8, 1}) * (1 + comm.rank())).sum().backward();
      };
      for (int step = 0; step < 3; ++step) {
        model.reducer.zero_grad();
        if (launch == Launch::first_gradient) {
          const auto scope = model.reducer.accumulate();
          pass();
        } else {
          pass();
        }
        pass();
        model.reducer.finish();
        const auto expected = 3 * at::arange(4, at::kDouble).view({4, 1}).expand({4, 4});
        if (step == 0) {
          EXPECT_TRUE(at::equal(model.grad(0), expected));
        }
      }
    }
  });
}

TEST_P(Launches, TakeTheValuesOfGradientsWithAGraph) {
  run_ranks(2, [&](Communicator& comm) {
    CompressedModel model(matrices_and_dense(), comm, compressor());
    CompressedModel plain(matrices_and_dense(), comm, compressor());
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < 5; ++step) {
      const auto given = gradients(step, comm.rank());
      plain.step(given);
      at::Tensor loss = at::zeros({}, at::kDouble);
      for (size_t p = 0; p < given.size(); ++p) {
        const auto& tensor = model.parameters[p].tensor;
        loss = loss + (tensor.pow(2) * given[p]).sum() / 2;  // at ones
        at::Tensor(tensor).mutable_grad() = at::Tensor();
      }
      loss.backward({}, {}, /*create_graph=*/true);
      EXPECT_TRUE(model.grad(0).requires_grad());
      model.reducer.finish();
      for (size_t p = 0; p < given.size(); ++p) {
        EXPECT_FALSE(model.grad(p).requires_grad());
        EXPECT_TRUE(at::equal(model.grad(p), plain.grad(p))) << step << " " << p;
      }
    }
  });
}

TEST_P(Launches, OfSeveralReducersDoNotMix) {
  run_ranks(2, [&](Communicator& comm) {
    CompressedModel one(matrices_and_dense(), comm, compressor());
    CompressedModel other(matrices_and_dense(), comm, compressor());
    CompressedModel alone(matrices_and_dense(), comm, compressor());
    const auto gradients = random_gradients(one.parameters);
    for (int64_t step = 0; step < 5; ++step) {
      const auto given = gradients(step, comm.rank());
      one.reducer.zero_grad();
      one.backward(given);
      other.step(gradients(step + 50, comm.rank()));
      one.reducer.finish();
      alone.step(given);
      EXPECT_TRUE(at::equal(one.grad(0), alone.grad(0)));
      EXPECT_FALSE(at::equal(one.grad(0), other.grad(0)));
    }
  });
}

TEST_P(Launches, HandBucketsToAFlatOptimizer) {
  run_ranks(2, [&](Communicator& comm) {
    const auto options = small_buckets(Launch::first_gradient);
    CompressedModel fused(matrices_and_dense(), comm, compressor(), options);
    CompressedModel apart(matrices_and_dense(), comm, compressor(), options);
    FlatOptimizer first(fused.reducer), second(apart.reducer);
    const auto gradients = random_gradients(fused.parameters);
    for (int64_t step = 0; step < 6; ++step) {
      const auto given = gradients(step, comm.rank());
      fused.reducer.zero_grad();
      fused.backward(given);
      fused.reducer.finish(first.on_bucket(0.01));
      apart.step(given);
      second.step(0.01);
    }
    EXPECT_GT(fused.reducer.plan().size(), 2);
    for (size_t p = 0; p < fused.parameters.size(); ++p) {
      EXPECT_TRUE(at::equal(fused.parameters[p].tensor, apart.parameters[p].tensor)) << p;
    }
  });
}

/// As an embedding makes it, whose rows are looked up more than once.
at::Tensor sparse_loss(const at::Tensor& table, int64_t step, int rank, bool sparse) {
  const auto rows = at::tensor({1, 5, 5, 9}) + (step + rank) % 20;
  return (at::embedding(table, rows, -1, false, sparse) * draw({4, 8}, 3, step, rank)).sum();
}

TEST_P(Launches, TakeTheSparseGradientsOfAnEmbedding) {
  run_ranks(2, [&](Communicator& comm) {
    CompressedModel sparse({parameter("table", {31, 8}), parameter("v", {3})}, comm, compressor());
    CompressedModel dense({parameter("table", {31, 8}), parameter("v", {3})}, comm, compressor());
    for (int64_t step = 0; step < 5; ++step) {
      for (auto* model : {&sparse, &dense}) {
        model->reducer.zero_grad();
        sparse_loss(model->parameters[0].tensor, step, comm.rank(), model == &sparse).backward();
        model->reducer.finish();
      }
      EXPECT_EQ(sparse.grad(0).layout(), at::kStrided);
      EXPECT_TRUE(at::equal(sparse.grad(0), dense.grad(0))) << step;
    }
  });
}

TEST_P(Launches, RefuseGradientsThatSomebodyScaled) {
  for (const auto launch : {Launch::first_gradient, Launch::at_finish}) {
    const auto comm = make_self_communicator();
    CompressedModel model(matrices_and_dense(), *comm, compressor(), small_buckets(launch));
    const auto gradients = random_gradients(model.parameters);
    model.step(gradients(0, 0));
    model.reducer.zero_grad();
    model.backward(gradients(1, 0));
    model.grad(3).mul_(0.5);
    try {
      model.reducer.finish();
      FAIL() << "nothing was thrown";
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find("'tall' was written to"), std::string::npos)
          << error.what();
    }
    model.step(gradients(2, 0));
  }
}

TEST_P(Launches, LeaveAFrozenParameterWithoutAGradient) {
  run_ranks(2, [&](Communicator& comm) {
    CompressedModel model(matrices_and_dense(), comm, compressor(),
                          small_buckets(Launch::first_gradient));
    const auto gradients = random_gradients(model.parameters);
    for (int64_t step = 0; step < 6; ++step) {
      for (const size_t p : {size_t{0}, size_t{2}}) {
        at::Tensor(model.parameters[p].tensor).requires_grad_(step != 2 && step != 3);
      }
      model.step(gradients(step, comm.rank()));
      for (size_t p = 0; p < model.parameters.size(); ++p) {
        EXPECT_EQ(model.grad(p).defined(), model.parameters[p].tensor.requires_grad());
      }
    }
  });
}

}  // namespace
}  // namespace isobar::launch_test
