// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/communicator.hpp>

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "comm/backend/operation_facts.hpp"
#include "comm/expect_error.hpp"

namespace isobar::test::communicator_test {
namespace {

template <typename Act>
void expect_usage_error(const Act& act, const std::string& part) {
  expect_contains(error_of<UsageError>(act), part);
}

TEST(Communicator, RefusesTensorsThatItCannotSend) {
  const auto comm = make_self_communicator();
  const auto transposed = at::ones({3, 4}).t();
  expect_usage_error([&] { (void)comm->allreduce(at::Tensor()); },
                     "allreduce on rank 0 of 1: buffer is an undefined tensor");
  expect_usage_error([&] { (void)comm->allreduce(transposed); }, "not contiguous");
  expect_usage_error([&] { (void)comm->allreduce(at::ones({2, 2}).to_sparse()); }, "sparse");
  expect_usage_error([&] { (void)comm->allreduce(at::ones({2}, at::kBool)); }, "bool");
  expect_usage_error([&] { (void)comm->broadcast(at::ones({2}, at::kComplexFloat), 0); },
                     "complex64");
}

TEST(Communicator, DividesSumsOfSixteenBitFloatsAndNoOthers) {
  const auto comm = make_self_communicator();
  auto values = at::full({3}, 3, at::kHalf);
  comm->allreduce(values, {.divisor = 1.5}).wait();
  EXPECT_TRUE(at::equal(values, at::full({3}, 2, at::kHalf)));
  expect_usage_error([&] { (void)comm->allreduce(at::ones({2}), {.divisor = 2}); },
                     "only a sum of 16-bit floats is divided, got sum/2 of float32");
  expect_usage_error(
      [&] { (void)comm->allreduce(values, {.op = ReduceOp::maximum, .divisor = 2}); },
      "got maximum/2 of float16");
  expect_usage_error([&] { (void)comm->allreduce(values, {.divisor = -1}); },
                     "the divisor must be positive and fit a float32, got -1");
  for (const auto type : {at::kHalf, at::kBFloat16}) EXPECT_TRUE(has_rounded_sums(type));
  for (const auto type : {at::kFloat, at::kDouble, at::kLong}) EXPECT_FALSE(has_rounded_sums(type));
}

TEST(Communicator, RefusesSizesThatDoNotFit) {
  run_ranks(2, [](Communicator& comm) {
    const auto three = at::ones({3});
    const auto five = at::ones({5});
    expect_usage_error([&] { (void)comm.reduce_scatter(three, five); },
                       "input has 5 elements, wanted 2 times the output's 3");
    expect_usage_error([&] { (void)comm.all_gather(five, three); },
                       "output has 5 elements, wanted 2 times the input's 3");
    expect_usage_error([&] { (void)comm.all_gather(at::ones({6}, at::kLong), three); },
                       "output is int64, input is float32");
    const auto six = at::ones({6});
    expect_usage_error([&] { (void)comm.all_gather(six, six.narrow(0, 3, 3)); }, "share memory");
  });
}

TEST(Communicator, RefusesRowsThatDoNotAddUp) {
  run_ranks(2, [](Communicator& comm) {
    const auto exchange = [&](at::Tensor output, std::vector<int64_t> output_rows,
                              std::vector<int64_t> input_rows) {
      (void)comm.all_to_all(output, at::ones({3, 2}), output_rows, input_rows);
    };
    const auto three = at::empty({3, 2});
    expect_usage_error([&] { exchange(three, {1, 2}, {3}); }, "input_rows has 1 entries");
    expect_usage_error([&] { exchange(three, {1, 2}, {1, 1}); }, "input_rows add up to 2");
    expect_usage_error([&] { exchange(three, {4, -1}, {1, 2}); }, "negative");
    expect_usage_error([&] { exchange(at::empty({3, 5}), {1, 2}, {1, 2}); }, "rows differ");
    expect_usage_error([&] { exchange(at::empty({}), {1, 2}, {1, 2}); }, "no dimensions");
    expect_usage_error([&] { exchange(three, {0, 3}, {3, 0}); }, "this rank sends itself");
  });
}

TEST(Communicator, RefusesRanksAndTagsThatAreNotThere) {
  run_ranks(2, [](Communicator& comm) {
    const auto buffer = at::ones({3});
    expect_usage_error([&] { (void)comm.broadcast(buffer, 2); }, "no rank 2 to broadcast from");
    expect_usage_error([&] { (void)comm.send(buffer, comm.rank()); }, "is not another rank");
    expect_usage_error([&] { (void)comm.receive(buffer, -1); }, "rank -1 is not another rank");
    expect_usage_error([&] { (void)comm.send(buffer, 1 - comm.rank(), 32768); }, "tag 32768");
  });
}

TEST(Communicator, IsUnharmedByAUsageError) {
  run_ranks(3, [](Communicator& comm) {
    if (comm.rank() == 1) {
      EXPECT_THROW((void)comm.allreduce(at::Tensor()), UsageError);
    }
    auto buffer = at::ones({2});
    comm.allreduce(buffer).wait();
    EXPECT_EQ(buffer[0].item<float>(), 3);
  });
}

TEST(Communicator, WantsAPositiveTimeLimit) {
  const auto comm = make_self_communicator();
  EXPECT_EQ(comm->timeout(), kDefaultTimeout);
  comm->set_timeout(std::chrono::milliseconds(5));
  EXPECT_EQ(comm->timeout().count(), 5);
  expect_usage_error([&] { comm->set_timeout(std::chrono::milliseconds(0)); }, "got 0 ms");
}

TEST(Communicator, NamesItsOperations) {
  Operation operation;
  operation.kind = OperationKind::allreduce;
  operation.output = at::ones({2, 512});
  operation.sequence = 41;
  EXPECT_EQ(operation.name(), "allreduce #41");
  EXPECT_EQ(operation.signature(), "allreduce sum float32[1024]");
  operation.mark.bucket = 2;
  EXPECT_EQ(operation.signature(), "allreduce sum float32[1024] of bucket 2");
  operation.mark = {.bucket = 2, .reducer = 1, .frozen = 3, .step = 7};
  EXPECT_EQ(
      operation.signature(),
      "allreduce sum float32[1024] of bucket 2, reducer 1, step 7, 3 of its parameters frozen");
  operation.mark = {};

  operation.kind = OperationKind::all_to_all;
  operation.input = at::ones({7, 3, 5}, at::kDouble);
  EXPECT_EQ(operation.signature(), "all_to_all float64 rows of [3, 5]");

  operation.kind = OperationKind::broadcast;
  operation.peer = 2;
  EXPECT_EQ(operation.signature(), "broadcast from 2 float32[1024]");

  operation.kind = OperationKind::send;
  operation.tag = 9;
  EXPECT_EQ(operation.name(), "send #41 to 2 tag 9");
}

TEST(Communicator, SaysWhichBucketGotNoAnswer) {
  Operation operation;
  operation.kind = OperationKind::allreduce;
  operation.output = at::ones({512, 512});
  operation.sequence = 41;
  operation.timeout = std::chrono::seconds(30);
  const std::string where = "allreduce #41 on rank 3 of 8: no answer in 30 s ";
  EXPECT_EQ(timed_out(operation, 3, 8), where + "(allreduce sum float32[262144])");
  operation.mark.bucket = 2;
  EXPECT_EQ(timed_out(operation, 3, 8), where + "(bucket 2, float32, 1.0 MiB)");
}

TEST(Work, IsCompleteWhenEmpty) {
  Work work;
  EXPECT_TRUE(work.is_completed());
  work.wait();
  work.synchronize();
}

}  // namespace
}  // namespace isobar::test::communicator_test
