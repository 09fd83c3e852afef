// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/thread_world.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "comm/expect_error.hpp"
#include "comm/forked.hpp"
#include "comm/on_threads.hpp"
#include "comm/signal_flag.hpp"

namespace isobar::test::thread_world_test {
namespace {

using namespace std::chrono_literals;

double seconds_of(const std::function<void()>& act) {
  const auto start = std::chrono::steady_clock::now();
  act();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(ThreadWorld, SumsInTheOrderOfRanks) {
  // (1 + 2^-24) + 2^-24 is 1 in float32; 2^-24 + 2^-24 first would give more.
  run_ranks(3, [](Communicator& comm) {
    auto buffer = at::full({1}, comm.rank() == 0 ? 1.0F : 0x1p-24F);
    comm.allreduce(buffer).wait();
    EXPECT_EQ(buffer.item<float>(), 1.0F);
  });
}

TEST(ThreadWorld, SumsSixteenBitFloatsInFloat32) {
  // In bfloat16 256 + 1 is 256; in float32 256 + 1 + 1 + 1 is 259, which rounds to 260.
  run_ranks(4, [](Communicator& comm) {
    auto buffer = at::full({1}, comm.rank() == 0 ? 256.0F : 1.0F).to(at::kBFloat16);
    comm.allreduce(buffer).wait();
    EXPECT_EQ(buffer.item<float>(), 260.0F);
  });
}

TEST(ThreadWorld, TellsBucketsOfOneSizeApart) {
  const auto text = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      comm.allreduce(at::ones({8}), {.mark = {.bucket = 3 + comm.rank()}}).wait();
    });
  });
  expect_contains(text, "'allreduce sum float32[8] of bucket 3'");
  expect_contains(text, "'allreduce sum float32[8] of bucket 4'");
}

TEST(ThreadWorld, TellsReducersApartInEveryCollectiveOfAReducer) {
  const std::vector<std::function<Work(Communicator&, const BucketMark&)>> collectives{
      [](Communicator& comm, const BucketMark& mark) {
        return comm.allreduce(at::ones({8}), {.mark = mark});
      },
      [](Communicator& comm, const BucketMark& mark) {
        return comm.reduce_scatter(at::ones({4}), at::ones({8}), {.mark = mark});
      },
      [](Communicator& comm, const BucketMark& mark) {
        return comm.all_gather(at::ones({8}), at::ones({4}), mark);
      },
      [](Communicator& comm, const BucketMark& mark) {
        return comm.all_to_all(at::ones({8}), at::ones({8}), {4, 4}, {4, 4}, mark);
      }};
  for (const auto& collective : collectives) {
    const auto text = error_of<CommError>([&] {
      run_ranks(2, [&](Communicator& comm) {
        collective(comm, {.bucket = 0, .reducer = comm.rank()}).wait();
      });
    });
    expect_contains(text, " of bucket 0, reducer 0'");
    expect_contains(text, " of bucket 0, reducer 1'");
  }
}

TEST(ThreadWorld, StartsWithoutWaitingForOthers) {
  std::atomic<bool> first_has_started = false;
  run_ranks(2, [&](Communicator& comm) {
    auto buffer = at::ones({3});
    while (comm.rank() == 1 && !first_has_started) std::this_thread::yield();
    auto work = comm.allreduce(buffer);
    first_has_started = true;
    work.wait();
    EXPECT_EQ(buffer[0].item<float>(), 2);
  });
}

TEST(ThreadWorld, GivesEachRankOneIntraOpThreadAndTheCallerItsOwnBack) {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  run_ranks(2, [](Communicator&) { EXPECT_EQ(at::get_num_threads(), 1); });
  EXPECT_EQ(at::get_num_threads(), 3);
  std::thread([] { EXPECT_EQ(at::get_num_threads(), 3); }).join();
  at::set_num_threads(before);
}

TEST(ThreadWorld, NamesTheRanksThatDoNotCome) {
  SignalFlag failed;
  const auto message = error_of<CommError>([&] {
    run_ranks(
        4,
        [&](Communicator& comm) {
          if (comm.rank() % 2 == 1) return failed.await();
          auto work = comm.barrier();
          const auto error = error_of<CommError>([&] { work.wait(); });
          failed.raise();
          throw CommError(error);
        },
        300ms);
  });
  expect_contains(message, "barrier #0 on rank ");
  expect_contains(message, " of 4: no answer in 300 ms (barrier); not arrived: ranks 1, 3");
}

TEST(ThreadWorld, NamesTheSenderThatDoesNotCome) {
  SignalFlag failed;
  const auto message = error_of<CommError>([&] {
    run_ranks(
        3,
        [&](Communicator& comm) {
          if (comm.rank() == 0) return failed.await();
          if (comm.rank() != 2) return;
          auto work = comm.receive(at::ones({7}), 0, 5);
          const auto error = error_of<CommError>([&] { work.wait(); });
          failed.raise();
          throw CommError(error);
        },
        50ms);
  });
  EXPECT_EQ(message,
            "receive #0 from 0 tag 5 on rank 2 of 3: no answer in 50 ms "
            "(receive float32[7]); not arrived: rank 0");
}

TEST(ThreadWorld, IsLeftAloneByForkedHelpers) {
  auto world = make_thread_world(2, kLongerThanChildren);
  on_threads(2, [&](int rank) { EXPECT_EQ(what_children_do(world[rank]), ""); });
}

// LibTorch makes its thread pool anew in a fork, by whichever thread asks first, behind no lock.
TEST(ThreadWorld, RunsInAForkedChild) {
  at::set_num_threads(at::get_num_threads());  // from here on there is a pool
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(end_of_child([] { run_ranks(8, [](Communicator& comm) { comm.barrier().wait(); }); }),
              "");
  }
}

TEST(SelfWorld, IsTheForkedHelpersToo) {
  auto world = make_self_communicator();
  EXPECT_EQ(end_of_child([&] {
              auto values = at::ones({3});
              world->split(0, 0)->allreduce(values).wait();
              world.reset();
            }),
            "");
}

TEST(ThreadWorld, KeepsTheFirstCauseForLaterCalls) {
  const auto world = make_thread_world(2, 30ms);
  auto work = world[0]->allreduce(at::ones({3}));
  const auto first = error_of<CommError>([&] { work.wait(); });
  EXPECT_EQ(error_of<CommError>([&] { work.wait(); }), first);
  EXPECT_EQ(error_of<CommError>([&] { (void)world[0]->barrier(); }), first);
  EXPECT_EQ(error_of<CommError>([&] { (void)world[1]->barrier(); }), first);
  EXPECT_EQ(error_of<CommError>([&] { (void)world[1]->split(0, 0); }), first);
  EXPECT_TRUE(work.is_completed());
}

TEST(ThreadWorld, TellsEveryRankAtOnceWhenCallsDiffer) {
  std::atomic<int> errors = 0;
  const double seconds = seconds_of([&] {
    run_ranks(3, [&](Communicator& comm) {
      const auto message = error_of<CommError>([&] {
        comm.barrier().wait();
        comm.allreduce(at::ones({comm.rank() == 1 ? 8 : 7})).wait();
      });
      expect_contains(message, "collective #1: rank ");
      expect_contains(message, "rank 1");
      expect_contains(message, "'allreduce sum float32[7]'");
      expect_contains(message, "'allreduce sum float32[8]'");
      ++errors;
    });
  });
  EXPECT_EQ(errors, 3);
  EXPECT_LT(seconds, 10);
}

TEST(ThreadWorld, RefusesOperationsInAnotherOrder) {
  const auto message = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      auto buffer = at::ones({7});
      auto first = comm.rank() == 0 ? comm.allreduce(buffer) : comm.broadcast(buffer, 1);
      first.wait();
    });
  });
  expect_contains(message, "'allreduce sum float32[7]'");
  expect_contains(message, "'broadcast from 1 float32[7]'");
}

TEST(ThreadWorld, RefusesRowsOnWhichTwoRanksDisagree) {
  const auto message = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      const int64_t rows = comm.rank() == 0 ? 3 : 5;
      std::vector<int64_t> counts{1, 1};
      counts[1 - comm.rank()] = rows;
      comm.all_to_all(at::empty({rows + 1, 2}), at::ones({rows + 1, 2}), counts, counts).wait();
    });
  });
  EXPECT_EQ(message, "all_to_all #0: rank 0 sends 3 rows to rank 1, which expects 5");
}

TEST(ThreadWorld, RefusesAMessageOfAnotherSize) {
  const auto message = error_of<CommError>([] {
    run_ranks(2, [](Communicator& comm) {
      if (comm.rank() == 0) comm.send(at::ones({8}), 1).wait();
      if (comm.rank() == 1) comm.receive(at::ones({7}), 0).wait();
    });
  });
  EXPECT_EQ(message,
            "message from rank 0 to rank 1 tag 0: sent send float32[8], wanted receive float32[7]");
}

TEST(ThreadWorld, EndsQuicklyWithTheCauseWhenARankThrows) {
  std::atomic<int> echoes = 0;
  const double seconds = seconds_of([&] {
    const auto message = error_of<std::runtime_error>([&] {
      run_ranks(4, [&](Communicator& comm) {
        comm.barrier().wait();
        if (comm.rank() == 2) {
          std::this_thread::sleep_for(50ms);  // the others wait for it by then
          throw std::runtime_error("loss is nan");
        }
        const auto echo = error_of<CommError>([&] { comm.allreduce(at::ones({3})).wait(); });
        expect_contains(echo, "rank 2 of 4 left");
        expect_contains(echo, "loss is nan");
        ++echoes;
        throw CommError(echo);
      });
    });
    EXPECT_EQ(message, "loss is nan");
  });
  EXPECT_EQ(echoes, 3);
  EXPECT_LT(seconds, 10);
}

TEST(ThreadWorld, RethrowsTheCauseThoughASubgroupEndsFirst) {
  for (int i = 0; i < 50; ++i) {
    const auto message = error_of<DataError>([&] {
      run_ranks(2, [&](Communicator& comm) {
        const auto group = comm.split(0, 0);
        if (comm.rank() == 1) throw DataError("truncated file");
        group->barrier().wait();
      });
    });
    ASSERT_EQ(message, "truncated file");
  }
}

TEST(ThreadWorld, FailsAtOnceWhenARankLeavesEarly) {
  const double seconds = seconds_of([] {
    const auto message = error_of<CommError>([] {
      run_ranks(2, [](Communicator& comm) {
        if (comm.rank() == 0) comm.barrier().wait();
      });
    });
    EXPECT_EQ(
        message,
        "rank 1 of 2 left before barrier #0 (barrier): its communicator was destroyed; did it "
        "take fewer steps than the others?");
  });
  EXPECT_LT(seconds, 10);
}

TEST(ThreadWorld, LetsARankLeaveThatHasDoneItsPart) {
  auto world = make_thread_world(2, 5s);
  auto buffer = at::ones({3});
  (void)world[0]->allreduce(at::ones({3}));
  world[0].reset();
  world[1]->allreduce(buffer).wait();
  EXPECT_EQ(buffer[0].item<float>(), 2);
}

TEST(ThreadWorld, LivesBesideAnotherWorld) {
  const auto first = make_thread_world(2, 50ms);
  const auto second = make_thread_world(2, 5s);
  EXPECT_THROW(first[0]->barrier().wait(), CommError);

  auto mine = second[0]->barrier();
  EXPECT_FALSE(mine.is_completed());
  second[1]->barrier().wait();
  EXPECT_TRUE(mine.is_completed());
}

TEST(ThreadWorld, FailsWithEverythingThatWasSplitFromIt) {
  run_ranks(2, [](Communicator& comm) {
    const auto group = comm.split(0, 0);
    group->set_timeout(20ms);
    auto late = [&] { group->barrier().wait(); };
    if (comm.rank() == 0) {
      const auto cause = error_of<CommError>(late);
      EXPECT_EQ(error_of<CommError>([&] { (void)comm.barrier(); }), cause);
    } else {
      EXPECT_THROW(comm.barrier().wait(), CommError);
    }
  });
}

TEST(ThreadWorld, RefusesTensorsOfAnotherDeviceAndIsUnharmed) {
  run_ranks(2, [](Communicator& comm) {
    if (comm.rank() == 1) {
      const auto elsewhere = at::empty({3}, at::TensorOptions().device(at::kMeta));
      expect_contains(error_of<UsageError>([&] { (void)comm.allreduce(elsewhere); }),
                      "the tensor is on meta, but backend threads takes CPU tensors");
    }
    comm.barrier().wait();
  });
}

TEST(ThreadWorld, WantsAtLeastOneRank) { EXPECT_THROW(make_thread_world(0), UsageError); }

}  // namespace
}  // namespace isobar::test::thread_world_test
