// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/reducer.hpp>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <future>

#include "ddp/exact.hpp"

namespace isobar::reducer_buckets_test {
namespace {

using namespace test;

TEST(ReducerBuckets, AreHandedOverReducedInTheOrderOfThePlan) {
  run_ranks(3, [](Communicator& comm) {
    auto a = leaf({5}), b = leaf({3, 7}), c = leaf({2}, at::kDouble);
    Reducer reducer({{"a", a}, {"b", b}, {"c", c}}, comm, {.caps = kOneTensorABucket});
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      for (auto t : {b, a, c}) backward(t, comm.rank());
      std::vector<int64_t> indices;
      reducer.finish([&](const ReducedBucket& reduced) {
        indices.push_back(reduced.index);
        for (const int64_t p : reduced.bucket->parameters) {
          const auto& tensor = reducer.parameters()[p].tensor;
          const auto values = reduced.gradients.narrow(0, 0, tensor.numel());
          EXPECT_TRUE(at::equal(values, exact_sum(tensor, 3).flatten() / 3));
          EXPECT_EQ(reduced.gradients.data_ptr(), tensor.grad().data_ptr());
        }
      });
      EXPECT_EQ(indices, (std::vector<int64_t>{0, 1, 2}));
    }
  });
}

TEST(ReducerBuckets, AreHandedOverWhileLaterOnesAreUnderWay) {
  std::promise<void> handed_over;
  auto seen = handed_over.get_future();
  run_ranks(
      2,
      [&](Communicator& comm) {
        auto a = leaf({5}), b = leaf({5});
        Reducer reducer({{"a", a}, {"b", b}}, comm, {.caps = kOneTensorABucket});
        backward(b, comm.rank());
        if (comm.rank() == 1) {  // sends its second bucket only once rank 0 was given the first
          ASSERT_EQ(seen.wait_for(std::chrono::seconds(20)), std::future_status::ready);
        }
        backward(a, comm.rank());
        reducer.finish([&](const ReducedBucket& reduced) {
          if (comm.rank() == 0 && reduced.index == 0) handed_over.set_value();
        });
        EXPECT_TRUE(at::equal(a.grad(), exact_mean(a, 2)));
      },
      std::chrono::seconds(30));
}

TEST(ReducerBuckets, LetAnOptimizerStepOnThemDirectly) {
  run_ranks(2, [](Communicator& comm) {
    auto a = leaf({5}), b = leaf({3, 7});
    Reducer reducer({{"a", a}, {"b", b}}, comm, {.caps = kOneTensorABucket});
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      const at::Tensor before[] = {a.detach().clone(), b.detach().clone()};
      for (auto t : {a, b}) backward(t, comm.rank());
      reducer.finish([&](const ReducedBucket& reduced) {
        for (const auto& slot : reducer.slots(reduced.index)) {
          auto tensor = reducer.parameters()[slot.parameter].tensor.detach();
          const auto part = reduced.gradients.narrow(0, slot.offset, slot.elements);
          tensor.sub_(part.view(tensor.sizes()), 0.5);
        }
      });
      EXPECT_TRUE(at::equal(a.detach(), before[0] - 0.5 * exact_mean(a, 2)));
      EXPECT_TRUE(at::equal(b.detach(), before[1] - 0.5 * exact_mean(b, 2)));
    }
  });
}

TEST(ReducerBuckets, RethrowWhatTheCallbackThrewOnceTheStepHasEnded) {
  run_ranks(2, [](Communicator& comm) {
    auto a = leaf({5}), b = leaf({5});
    Reducer reducer({{"a", a}, {"b", b}}, comm, {.caps = kOneTensorABucket});
    for (int step = 0; step < 3; ++step) {
      reducer.zero_grad();
      for (auto t : {a, b}) backward(t, comm.rank());
      if (step == 2 || comm.rank() == 1) {
        reducer.finish();
      } else {
        EXPECT_THROW(reducer.finish([](const ReducedBucket&) { throw DataError("full"); }),
                     DataError);
      }
      for (auto t : {a, b}) EXPECT_TRUE(at::equal(t.grad(), exact_mean(t, 2)));
    }
  });
}

TEST(ReducerBuckets, TellWhereTheirParametersLie) {
  auto comm = make_self_communicator();
  auto a = leaf({3}), b = leaf({17}), c = leaf({2}, at::kDouble);
  Reducer reducer({{"a", a}, {"b", b}, {"c", c}}, *comm);
  ASSERT_EQ(reducer.plan().size(), 2U);
  EXPECT_EQ(reducer.gradients(0).scalar_type(), at::kDouble);
  EXPECT_EQ(reducer.gradients(0).numel(), 8);
  const auto slots = reducer.slots(1);  // b, then a
  ASSERT_EQ(slots.size(), 2U);
  EXPECT_EQ(slots[0].parameter, 1);
  EXPECT_EQ(slots[0].offset, 0);
  EXPECT_EQ(slots[0].elements, 17);
  EXPECT_EQ(slots[1].parameter, 0);
  EXPECT_EQ(slots[1].offset, 32);
  EXPECT_EQ(reducer.gradients(1).numel(), 48);
  EXPECT_THROW(reducer.slots(2), UsageError);
}

thread_local int64_t allocations = 0;

/// Counts what each thread asks LibTorch's CPU allocator for, while it lives.
class CountAllocations final : public c10::Allocator {
 public:
  CountAllocations() : inner_(c10::GetAllocator(at::kCPU)) { c10::SetAllocator(at::kCPU, this, 1); }
  ~CountAllocations() override { c10::SetAllocator(at::kCPU, inner_, 1); }
  c10::DataPtr allocate(size_t bytes) override {
    ++allocations;
    return inner_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    inner_->copy_data(to, from, bytes);
  }

 private:
  c10::Allocator* inner_;
};

/// What the second of two backward passes over the parameters allocates.
int64_t allocations_of_backward(const std::vector<at::Tensor>& parameters) {
  for (int pass = 0; pass < 2; ++pass) {
    allocations = 0;
    for (const auto& t : parameters) backward(t, 1);
  }
  return allocations;
}

TEST(ReducerBuckets, AllocateNothingInASteadyStep) {
  const CountAllocations counting;
  run_ranks(2, [](Communicator& comm) {
    const auto bare = allocations_of_backward({leaf({5}), leaf({3, 7}), leaf({2}, at::kDouble)});
    EXPECT_GT(bare, 0);  // it counts
    for (const auto launch : {Launch::first_gradient, Launch::counted, Launch::at_finish}) {
      const std::vector<at::Tensor> all{leaf({5}), leaf({3, 7}), leaf({2}, at::kDouble)};
      Reducer reducer({{"a", all[0]}, {"b", all[1]}, {"c", all[2]}}, comm,
                      {.caps = kOneTensorABucket, .launch = launch});
      for (int step = 0; step < 4; ++step) {
        allocations = 0;
        reducer.zero_grad();
        for (const auto& t : all) backward(t, 1);
        reducer.finish();
      }
      EXPECT_EQ(allocations, bare);
      EXPECT_EQ(reducer.counters().copies, 0);
      EXPECT_EQ(reducer.counters().collectives, 12);
    }
  });
}

}  // namespace
}  // namespace isobar::reducer_buckets_test
