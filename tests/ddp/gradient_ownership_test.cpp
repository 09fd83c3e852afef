// SPDX-License-Identifier: Apache-2.0
// Whose .grad is when, and what comes of it where somebody else writes there.
#include <isobar/ddp/reducer.hpp>

#include "core/message_of.hpp"

#include <isobar/ddp/compressor.hpp>
#include <isobar/ddp/gradient_norm.hpp>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/sgd.h>
#include <gtest/gtest.h>

#include "ddp/exact.hpp"

#include "comm/expect_error.hpp"

namespace isobar::gradient_ownership_test {
namespace {

using namespace test;

struct Meddling {
  const char* name;
  std::function<void(const at::Tensor&)> act;
};

std::ostream& operator<<(std::ostream& out, const Meddling& m) { return out << m.name; }

class Meddle : public testing::TestWithParam<Meddling> {};
INSTANTIATE_TEST_SUITE_P(
    Ways, Meddle,
    testing::Values(
        Meddling{"scale", [](const at::Tensor& w) { w.grad().mul_(2); }},
        Meddling{"scale_data", [](const at::Tensor& w) { w.grad().data().mul_(2); }},
        Meddling{"scale_detached", [](const at::Tensor& w) { w.grad().detach().view(-1).mul_(2); }},
        Meddling{"element", [](const at::Tensor& w) { w.grad().data_ptr<float>()[0] = 9; }},
        Meddling{"foreach", [](const at::Tensor& w) { at::_foreach_mul_({w.grad()}, 2); }},
        Meddling{"libtorch_norm",
                 [](const at::Tensor& w) { torch::nn::utils::clip_grad_norm_(w, 1e-3); }},
        Meddling{"libtorch_value",
                 [](const at::Tensor& w) { torch::nn::utils::clip_grad_value_(w, 1e-3); }},
        Meddling{"isobar_norm",
                 [](const at::Tensor& w) {
                   clip_by_norm({{"w", w}}, 10, 1);
                 }},
        Meddling{"isobar_value",
                 [](const at::Tensor& w) {
                   clip_by_value({{"w", w}}, 1e-3);
                 }},
        Meddling{"zero",
                 [](const at::Tensor& w) {
                   torch::optim::SGD({w}, torch::optim::SGDOptions(0.1)).zero_grad(false);
                 }},
        Meddling{"drop", [](const at::Tensor& w) { w.mutable_grad() = at::Tensor(); }},
        Meddling{"replace", [](const at::Tensor& w) { w.mutable_grad() = at::ones(w.sizes()); }}),
    [](const auto& info) { return info.param.name; });

TEST_P(Meddle, IsAnErrorThatNamesTheParameterOnceTheStepHasEnded) {
  for (const int ranks : {1, 2}) {
    run_ranks(ranks, [&](Communicator& comm) {
      for (const auto launch : {Launch::first_gradient, Launch::counted, Launch::at_finish}) {
        auto first = leaf({3}), encoder = leaf({5, 2});
        Reducer reducer({{"first", first}, {"encoder.weight", encoder}}, comm, {.launch = launch});
        for (int step = 0; step < 4; ++step) {
          reducer.zero_grad();
          backward(encoder, comm.rank());
          if (step == 2) {
            comm.barrier().wait();  // the other rank's gradients, too, are where they are written
            GetParam().act(encoder);
            const auto text = message_of<UsageError>([&] { reducer.finish(); });
            expect_contains(text, ".grad of parameter 'encoder.weight' was ");
            expect_contains(text, "between backward() and finish()");
            expect_contains(text, "const_data_ptr");
            continue;
          }
          reducer.finish();
          EXPECT_TRUE(at::equal(encoder.grad(), exact_mean(encoder, ranks)));
          GetParam().act(encoder);  // now it is the caller's
        }
      }
    });
  }
}

TEST(GradientOwnership, IsCheckedForAliasesThatWereKept) {
  auto comm = make_self_communicator();
  auto weight = leaf({5});
  Reducer reducer({{"weight", weight}}, *comm);
  backward(weight, 1);
  reducer.finish();
  const auto kept = weight.grad();
  reducer.zero_grad();
  backward(weight, 1);
  kept.mul_(2);
  expect_contains(message_of<UsageError>([&] { reducer.finish(); }), "'weight' was written to");
}

/// Somebody looked at a gradient under way, and writes to what he has when the reducer is gone.
TEST(GradientOwnership, LeavesWhatWasKeptOfAGradientUnderWayToItsHolder) {
  for (const bool finishes : {false, true}) {
    run_ranks(2, [&](Communicator& comm) {
      auto weight = leaf({5});
      at::Tensor kept, detached;
      {
        Reducer reducer({{"weight", weight}}, comm);
        backward(weight, comm.rank());
        comm.barrier().wait();  // the reducer's end copies what would still be written to
        kept = weight.grad();
        detached = kept.detach();
        if (finishes) reducer.finish();
      }
      detached.fill_(3);
      EXPECT_TRUE(at::equal(kept, at::full({5}, 3.0)));
      if (finishes) EXPECT_TRUE(at::equal(weight.grad(), exact_mean(weight, 2)));
    });
  }
}

TEST(GradientOwnership, LetsTheReducersGradientsBeRead) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({5, 2});
    Reducer reducer({{"weight", weight}}, comm);
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      backward(weight, comm.rank());
      (void)weight.grad().norm().item<double>();
      (void)weight.grad().clone();
      (void)at::equal(weight.grad(), weight.grad());
      (void)*weight.grad().const_data_ptr<float>();
      (void)weight.grad().accessor<const float, 2>()[0][0];
      reducer.finish();
      EXPECT_TRUE(at::equal(weight.grad(), exact_mean(weight, 2)));
    }
    EXPECT_EQ(reducer.counters().copies, 0);
  });
}

TEST(GradientOwnership, IsTheCallersAfterPassesThatOnlyAccumulate) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({5});
    Reducer reducer({{"weight", weight}}, comm);
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      {
        auto scope = reducer.accumulate();
        backward(weight, comm.rank());
        weight.grad().mul_(4);
      }
      if (step == 1) backward(weight, comm.rank());
      reducer.finish();
      EXPECT_TRUE(at::equal(weight.grad(), (step == 1 ? 5 : 4) * exact_mean(weight, 2)));
    }
  });
}

TEST(GradientOwnership, LeavesRoomForGradientsMadeByAutogradGrad) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({5});
    Reducer reducer({{"weight", weight}}, comm);
    for (int step = 0; step < 2; ++step) {
      const auto loss = (weight * exact_gradient(weight, comm.rank())).sum();
      weight.mutable_grad() = torch::autograd::grad({loss}, {weight}).front();
      reducer.finish();
      EXPECT_TRUE(at::equal(weight.grad(), exact_mean(weight, 2)));
    }
  });
}

TEST(GradientOwnership, EndsWithTheReducer) {
  auto comm = make_self_communicator();
  auto weight = leaf({5});
  {
    Reducer reducer({{"weight", weight}}, *comm);
    backward(weight, 1);
  }
  EXPECT_TRUE(at::equal(weight.grad(), exact_gradient(weight, 1)));
  weight.grad().mul_(2);
  backward(weight, 1);
  EXPECT_TRUE(at::equal(weight.grad(), 3 * exact_gradient(weight, 1)));
}

TEST(GradientOwnership, EndsOnEveryRankWithGradientsInFlight) {
  run_ranks(2, [](Communicator& comm) {
    auto weight = leaf({5});
    for (int i = 0; i < 3; ++i) {
      Reducer reducer({{"weight", weight}}, comm);
      reducer.zero_grad();
      backward(weight, comm.rank());
      if (i < 2) continue;
      reducer.finish();
      EXPECT_TRUE(at::equal(weight.grad(), exact_mean(weight, 2)));
    }
  });
}

TEST(GradientOwnership, HandsNoBucketToTheCallbackWhereItWasBroken) {
  auto comm = make_self_communicator();
  auto weight = leaf({5});
  Reducer reducer({{"weight", weight}}, *comm);
  backward(weight, 1);
  weight.grad().mul_(2);
  EXPECT_THROW(reducer.finish([](const ReducedBucket&) {
    FAIL() << "an update by a gradient that "
              "somebody scaled";
  }),
               UsageError);
}

/// Embeddings whose gradient is sparse: of the rows that were looked up, some of them twice.
TEST(SparseGradients, AreAddedIntoTheSlotHoweverGradientsWereZeroed) {
  run_ranks(2, [](Communicator& comm) {
    for (const bool transposed : {false, true}) {
      auto table = transposed ? at::ones({3, 6}).t() : at::ones({6, 3});
      table.requires_grad_(true);
      auto dense = table.detach().clone().requires_grad_(true);
      const auto rows = at::tensor({0, 4, 4}) + comm.rank();
      const auto look_up = [&](const at::Tensor& t, bool sparse) {
        return (at::embedding(t, rows, -1, false, sparse) * (comm.rank() + 1)).sum();
      };
      Reducer reducer({{"table", table}}, comm);
      Reducer reference({{"dense", dense}}, comm);
      for (int step = 0; step < 4; ++step) {
        if (step % 2) {
          table.mutable_grad() = at::Tensor();
        } else {
          reducer.zero_grad();
        }
        reference.zero_grad();
        look_up(table, true).backward();
        look_up(dense, false).backward();
        reducer.finish();
        reference.finish();
        EXPECT_EQ(table.grad().layout(), at::kStrided);
        EXPECT_TRUE(at::equal(table.grad(), dense.grad())) << step;
      }
    }
  });
}

TEST(Reducers, OfOneCommunicatorAreToldApartWhereTheirOrderDiffers) {
  const auto text = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      auto a = leaf({5}), b = leaf({5});
      Reducer first({{"w", a}}, comm), second({{"w", b}}, comm);
      for (int i = 0; i < 2; ++i) {
        const bool first_goes_first = i == 0 || comm.rank() == 0;
        first.zero_grad();
        second.zero_grad();
        backward(first_goes_first ? a : b, comm.rank());
        backward(first_goes_first ? b : a, comm.rank());
        first.finish();
        second.finish();
      }
    });
  });
  expect_contains(text, "of bucket 0, reducer ");
}

TEST(Reducers, SayAtOnceThatOneRankHasLeftAStepOut) {
  const auto text = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      auto weight = leaf({5});
      Reducer reducer({{"weight", weight}}, comm);
      for (int step = 0; step < 5; ++step) {
        if (comm.rank() == 1 && step == 2) continue;
        reducer.zero_grad();
        reducer.begin_step(step);
        backward(weight, comm.rank());
        reducer.finish();
        EXPECT_LT(step, 2);
      }
    });
  });
  expect_contains(text, "step 2'");
  expect_contains(text, "step 3'");
}

TEST(BucketChannel, KeepsTheTensorsItIsGiven) {
  const auto comm = make_self_communicator();
  Traffic traffic;
  BucketChannel channel(*comm, {}, traffic, {at::full({2}, 3.0)});
  EXPECT_TRUE(at::equal(channel.source(0), at::full({2}, 3.0)));
  EXPECT_FALSE(channel.source(1).defined());
}

}  // namespace
}  // namespace isobar::gradient_ownership_test
