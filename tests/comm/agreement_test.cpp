// SPDX-License-Identifier: Apache-2.0
#include <isobar/comm/agreement.hpp>

#include <isobar/comm/own_pace.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "comm/expect_error.hpp"
#include "comm/most_bytes.hpp"

namespace isobar::test::agreement_test {
namespace {

using Lines = std::vector<std::string>;

/// The one error that require_equal gives on all of three ranks, rank 2 with other lines.
std::string difference(const Lines& theirs, const Lines& ours) {
  std::mutex mutex;
  std::set<std::string> messages;
  run_ranks(3, [&](Communicator& comm) {
    const auto message = error_of<UsageError>(
        [&] { require_equal(comm, "configuration", comm.rank() == 2 ? theirs : ours); });
    const std::lock_guard lock(mutex);
    messages.insert(message);
  });
  EXPECT_EQ(messages.size(), 1);
  return *messages.begin();
}

TEST(RequireEqual, NamesTheFirstRankAndLineThatDiffer) {
  EXPECT_EQ(difference({"a=1", "train.steps=100", "z=0"}, {"a=1", "train.steps=200", "z=1"}),
            "configuration differs: rank 2 has 'train.steps=100', rank 0 has 'train.steps=200'");
}

TEST(RequireEqual, NamesALineThatOnlyOneSideHas) {
  EXPECT_EQ(difference({"a=1", "b=2", "c=3"}, {"a=1", "c=3"}),
            "configuration differs: rank 2 has 'b=2', rank 0 has no 'b'");
  EXPECT_EQ(difference({"a=1", "c=3"}, {"a=1", "b=2", "c=3"}),
            "configuration differs: rank 2 has no 'b', rank 0 has 'b=2'");
  EXPECT_EQ(difference({"a=1"}, {"a=1", "b=2"}),
            "configuration differs: rank 2 has no 'b', rank 0 has 'b=2'");
  EXPECT_EQ(difference({}, {"a=1"}), "configuration differs: rank 2 has no 'a', rank 0 has 'a=1'");
}

TEST(RequireEqual, TellsAnEmptyLineFromNone) {
  EXPECT_EQ(difference({""}, {}), "configuration differs: rank 2 has '', rank 0 has no ''");
}

TEST(RequireEqual, NamesARepeatedLine) {
  EXPECT_EQ(difference({"a=1", "a=1"}, {"a=1"}),
            "configuration differs: rank 2 has 'a=1', rank 0 has no more");
}

TEST(RequireEqual, IsSilentWhenAllAreEqual) {
  run_ranks(3, [](Communicator& comm) {
    require_equal(comm, "configuration", {"a=1", "", "b=2"});
    require_equal(comm, "configuration", {});
  });
}

// Of many ranks, whose texts grow with the model.
TEST(RequireEqual, SendsNoTextsButTheTwoThatItCompares) {
  const std::string text(10'000, 'x');
  const auto bytes = most_bytes(8, [&](Communicator& comm) {
    const auto message = error_of<UsageError>(
        [&] { require_equal(comm, "lines", {text + std::to_string(comm.rank())}); });
    expect_contains(message, "lines differs: rank 1 has 'xxx");
  });
  EXPECT_LT(bytes, 25'000);
}

TEST(RunAgreed, SendsNoTextsButTheOneThatItThrows) {
  const std::string text(10'000, 'x');
  const auto bytes = most_bytes(8, [&](Communicator& comm) {
    const auto message = error_of<DataError>([&] {
      run_agreed(comm, [&] {
        if (comm.rank() > 2) throw DataError(text + std::to_string(comm.rank()));
      });
    });
    EXPECT_EQ(message, "rank 3 of 8: " + text + "3");
  });
  EXPECT_LT(bytes, 15'000);
}

template <typename E>
void expect_type_is_kept() {
  run_ranks(3, [](Communicator& comm) {
    try {
      run_agreed(comm, [&] {
        if (comm.rank() == 1) throw E("what happened");
      });
      ADD_FAILURE() << "no error on rank " << comm.rank();
    } catch (const Error& error) {
      EXPECT_EQ(typeid(error), typeid(E));
      EXPECT_STREQ(error.what(), "rank 1 of 3: what happened");
    }
  });
}

TEST(RunAgreed, KeepsTheTypeOfTheError) {
  expect_type_is_kept<Error>();
  expect_type_is_kept<UsageError>();
  expect_type_is_kept<CommError>();
  expect_type_is_kept<DataError>();
}

TEST(RunAgreed, TakesTheLowestRankThatFailed) {
  run_ranks(4, [](Communicator& comm) {
    const auto message = error_of<DataError>([&] {
      run_agreed(comm, [&] {
        if (comm.rank() == 1) throw DataError("one");
        if (comm.rank() == 3) throw UsageError("three");
      });
    });
    EXPECT_EQ(message, "rank 1 of 4: one");
  });
}

TEST(RunAgreed, NamesNoRankWhenAllFailAlike) {
  run_ranks(3, [](Communicator& comm) {
    const auto message =
        error_of<DataError>([&] { run_agreed(comm, [] { throw DataError("no such file"); }); });
    EXPECT_EQ(message, "no such file");
  });
}

TEST(RunAgreed, TakesOtherExceptionsAsErrorOfOneLine) {
  run_ranks(2, [](Communicator& comm) {
    const auto other =
        error_of<Error>([&] { run_agreed(comm, [] { throw std::out_of_range("index 7"); }); });
    EXPECT_EQ(other, "index 7");
    const auto torch =
        error_of<Error>([&] { run_agreed(comm, [] { (void)at::ones({2}).add(at::ones({3})); }); });
    expect_contains(torch, "must match");
    EXPECT_EQ(torch.find('\n'), std::string::npos);
  });
}

TEST(Agreement, MarksErrorsThatEveryRankThrows) {
  run_ranks(2, [](Communicator& comm) {
    const auto marked = [](const auto& call) {
      try {
        call();
        return false;
      } catch (const Error& error) {
        return error.known_to_all();
      }
    };
    EXPECT_TRUE(marked([&] {
      run_agreed(comm, [&] {
        if (comm.rank() == 1) throw DataError("lost");
      });
    }));
    EXPECT_TRUE(marked([&] { require_equal(comm, "rank", {std::to_string(comm.rank())}); }));
    EXPECT_FALSE(marked([] { throw DataError("mine"); }));
  });
}

TEST(OwnPace, LetsRanksTakeLongerThanTheTimeLimit) {
  using std::chrono::milliseconds;
  std::vector<int64_t> last(3);
  run_ranks(
      3,
      [&](Communicator& comm) {
        run_at_own_pace(
            comm,
            [&](const Advance& advance) {
              if (comm.rank() == 1) std::this_thread::sleep_for(milliseconds(600));
              advance(comm.rank() + 1);
              advance(10);
            },
            [&](int64_t done) {
              EXPECT_GE(done, last[comm.rank()]);
              last[comm.rank()] = done;
            });
        comm.barrier().synchronize();
      },
      milliseconds(200));
  EXPECT_EQ(last, std::vector<int64_t>(3, 36));
}

TEST(OwnPace, EndsEveryRanksStageWhereOneFails) {
  run_ranks(2, [](Communicator& comm) {
    const auto message = error_of<DataError>([&] {
      run_at_own_pace(comm, [&](const Advance& advance) {
        if (comm.rank() == 1) throw DataError("no file");
        while (true) {
          advance(1);
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      });
    });
    EXPECT_EQ(message, "rank 1 of 2: no file");
  });
}

}  // namespace
}  // namespace isobar::test::agreement_test
