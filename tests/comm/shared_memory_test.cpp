// SPDX-License-Identifier: Apache-2.0
#include "comm/shared_memory/shared_memory.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "comm/expect_error.hpp"
#include "comm/forked.hpp"
#include "comm/on_threads.hpp"
#include "comm/process_counts.hpp"
#include "comm/scenarios.hpp"
#include "comm/shared_memory/segment.hpp"
#include "comm/shared_memory_sums.hpp"
#include "comm/signal_flag.hpp"

namespace isobar::test::shared_memory_test {
namespace {

using namespace std::chrono_literals;

using Body = std::function<void(Communicator&)>;

double seconds_of(const std::function<void()>& act) {
  const auto start = std::chrono::steady_clock::now();
  act();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// All ranks see the memory at one address.
void run_shared(int size, const Body& body, std::chrono::milliseconds timeout = 20s) {
  auto world = make_shared_memory_threads(size, timeout);
  on_threads(size, [&](int rank) {
    const auto comm = std::move(world[rank]);
    body(*comm);
  });
}

std::string unused_name() {
  static std::atomic<int> names{0};
  return "isobar-test-" + std::to_string(getpid()) + "-" + std::to_string(names++);
}

/// Each rank maps the memory for itself, as a process does.
void run_attached(int size, const std::string& name, const Body& body) {
  on_threads(size, [&](int rank) {
    body(*make_shared_memory_communicator({name, rank, size, 20s, nullptr}));
  });
}

bool has_name(const std::string& name) { return access(("/dev/shm/" + name).c_str(), F_OK) == 0; }

TEST(SharedMemory, LeavesNoDescriptorsAndThreadsBehind) {
  expect_nothing_left(10, [] { run_attached(2, unused_name(), use_every_connection); });
}

TEST(SharedMemory, IsLeftAloneByForkedHelpers) {
  auto world = make_shared_memory_threads(2, kLongerThanChildren);
  on_threads(2, [&](int rank) { EXPECT_EQ(what_children_do(world[rank]), ""); });
}

/// Whether this process has memory of tests open. Allocates nothing: a child of a process of
/// several threads may have the heap's lock for ever.
bool has_memory_open() {
  for (int descriptor = 0; descriptor < 1024; ++descriptor) {
    std::array<char, 40> path{};
    std::array<char, 256> target{};
    std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", descriptor);
    const auto length = readlink(path.data(), target.data(), target.size());
    if (length <= 0) continue;
    const std::string_view name(target.data(), static_cast<size_t>(length));
    if (name.find("/isobar-test-") != std::string_view::npos) return true;
  }
  return false;
}

// A helper that had the lock on a name would keep it in use after its rank's end.
TEST(SharedMemory, OpensNothingThatHelpersForkedMeanwhileHave) {
  std::atomic<bool> stops{false};
  const std::jthread starts([&] {
    while (!stops) run_attached(2, unused_name(), [](Communicator&) {});
  });
  int wrong = 0;
  for (int i = 0; i < 100 && wrong == 0; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(kChildSeconds);
      _exit(has_memory_open() ? 1 : 0);
    }
    EXPECT_EQ(waitpid(child, &wrong, 0), child);
  }
  stops = true;
  EXPECT_EQ(wrong, 0);
}

/// A process that is killed while it waits, as rank 0, for the others to attach.
void kill_a_start(const std::string& name) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      make_shared_memory_communicator({name, 0, 2, 20s, nullptr});
    } catch (const std::exception&) {
    }
    _exit(0);
  }
  for (int i = 0; i < 10'000 && !has_name(name); ++i) std::this_thread::sleep_for(1ms);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(has_name(name));
}

TEST(SharedMemory, StartsWhereAKilledStartLeftItsName) {
  const auto name = unused_name();
  kill_a_start(name);
  run_attached(2, name, [](Communicator& comm) { comm.barrier().wait(); });
  EXPECT_FALSE(has_name(name));
}

TEST(SharedMemory, GivesBackTheMemoryOfKilledStarts) {
  const auto name = unused_name();
  kill_a_start(name);
  run_attached(2, unused_name(), [](Communicator& comm) { comm.barrier().wait(); });
  EXPECT_FALSE(has_name(name));
}

TEST(SharedMemory, LeavesTheNameToAStartThatWaits) {
  const auto name = unused_name();
  std::thread rank_0([&] { make_shared_memory_communicator({name, 0, 2, 20s, nullptr}); });
  while (!has_name(name)) std::this_thread::sleep_for(1ms);
  run_attached(2, unused_name(), [](Communicator& comm) { comm.barrier().wait(); });
  EXPECT_TRUE(has_name(name));
  make_shared_memory_communicator({name, 1, 2, 20s, nullptr});
  rank_0.join();
}

/// Memory that somebody else has made under the name.
class Foreign {
 public:
  Foreign(const std::string& name, mode_t mode, uid_t owner) : path_("/" + name) {
    const int made = shm_open(path_.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600);
    EXPECT_EQ(fchmod(made, mode), 0);
    EXPECT_EQ(fchown(made, owner, static_cast<gid_t>(-1)), 0);
    close(made);
  }
  ~Foreign() { shm_unlink(path_.c_str()); }
  Foreign(const Foreign&) = delete;
  Foreign& operator=(const Foreign&) = delete;

 private:
  std::string path_;
};

void expect_refusal(const std::string& name, const std::string& reason) {
  for (const int rank : {0, 1}) {
    const auto text = error_of<CommError>([&] {
      make_shared_memory_communicator({name, rank, 2, 20s, nullptr});
    });
    expect_contains(text, "shared memory '" + name + "' on rank " + std::to_string(rank) + " of 2");
    expect_contains(text, reason);
    EXPECT_TRUE(has_name(name));  // it is not ours to remove
  }
}

TEST(SharedMemory, RefusesANameThatOthersMayUse) {
  const auto name = unused_name();
  const Foreign foreign(name, 0666, geteuid());
  expect_refusal(name, "may be used by others, wanted mode 600");
  run_attached(2, unused_name(), [](Communicator& comm) { comm.barrier().wait(); });
  EXPECT_TRUE(has_name(name));
}

TEST(SharedMemory, RefusesANameOfAnotherUsers) {
  constexpr uid_t kSomebody = 65534;
  if (geteuid() != 0) return;  // nobody else gives files away
  const auto name = unused_name();
  const Foreign foreign(name, 0600, kSomebody);
  expect_refusal(name, "belongs to user 65534, wanted 0");
  run_attached(2, unused_name(), [](Communicator& comm) { comm.barrier().wait(); });
  EXPECT_TRUE(has_name(name));
}

class OnSharedMemory : public testing::TestWithParam<Scenario> {};

TEST_P(OnSharedMemory, BehavesAsEveryBackend) {
  for (const int size : {1, 2, 3, 4, 5}) {
    SCOPED_TRACE("world of " + std::to_string(size));
    run_shared(size, GetParam().run);
  }
  run_attached(3, unused_name(), GetParam().run);
}

INSTANTIATE_TEST_SUITE_P(Threads, OnSharedMemory, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(SharedMemory, GivesTheBitsOfTheThreadsBackend) {
  for (const int size : {2, 3, 4}) run_shared(size, expect_bits_of_threads);
}

TEST(SharedMemory, MovesBuffersOfManyPieces) { run_shared(3, expect_large_moves); }

TEST(SharedMemory, LeavesNoNameBehind) {
  const auto name = unused_name();
  run_attached(3, name, [&](Communicator& comm) {
    comm.barrier().wait();
    EXPECT_FALSE(has_name(name));
    EXPECT_EQ(comm.backend(), "shm");
  });
}

TEST(SharedMemory, NamesTheRanksThatDoNotAttach) {
  const auto name = unused_name();
  on_threads(2, [&](int i) {
    const SharedMemoryOptions options{name, i == 0 ? 0 : 2, 4, 200ms, nullptr};
    const auto message =
        error_of<CommError>([&] { (void)make_shared_memory_communicator(options); });
    expect_contains(message, "not attached within 200 ms: ranks 1, 3");
  });
  EXPECT_FALSE(has_name(name));
}

TEST(SharedMemory, NamesRankZeroThatDoesNotCome) {
  const SharedMemoryOptions options{unused_name(), 1, 2, 50ms, nullptr};
  expect_contains(error_of<CommError>([&] { (void)make_shared_memory_communicator(options); }),
                  "on rank 1 of 2: not attached within 50 ms: rank 0");
}

TEST(SharedMemory, RefusesAnotherSize) {
  const auto name = unused_name();
  on_threads(2, [&](int rank) {
    const SharedMemoryOptions options{name, rank, 2 + rank, 300ms, nullptr};
    EXPECT_THROW((void)make_shared_memory_communicator(options), CommError);
  });
  EXPECT_FALSE(has_name(name));
}

TEST(SharedMemory, NamesBothCallsOnEveryRank) {
  const double seconds = seconds_of([] {
    run_shared(3, [](Communicator& comm) {
      comm.barrier().wait();
      const auto message =
          error_of<CommError>([&] { comm.allreduce(at::ones({comm.rank() == 1 ? 8 : 7})).wait(); });
      EXPECT_EQ(message,
                "collective #1: rank 0 of 3 calls 'allreduce sum float32[7]', rank 1 calls "
                "'allreduce sum float32[8]'; all ranks must issue the same collectives in the "
                "same order");
      EXPECT_EQ(error_of<CommError>([&] { (void)comm.barrier(); }), message);
    });
  });
  EXPECT_LT(seconds, 10);
}

TEST(SharedMemory, TellsBucketsAndReducersApart) {
  for (const bool by_bucket : {true, false}) {
    run_shared(2, [&](Communicator& comm) {
      const int rank = comm.rank();
      const BucketMark mark{.bucket = by_bucket ? rank : 0, .reducer = by_bucket ? 0 : rank};
      const auto message =
          error_of<CommError>([&] { comm.allreduce(at::ones({4}), {.mark = mark}).wait(); });
      expect_contains(message, "of bucket 0, reducer 0'");
      expect_contains(message, by_bucket ? "of bucket 1, reducer 0'" : "of bucket 0, reducer 1'");
    });
  }
}

TEST(SharedMemory, RefusesRowsOnWhichTwoRanksDisagree) {
  run_shared(2, [](Communicator& comm) {
    const int64_t rows = comm.rank() == 0 ? 3 : 5;
    std::vector<int64_t> counts{1, 1};
    counts[1 - comm.rank()] = rows;
    const auto message = error_of<CommError>([&] {
      comm.all_to_all(at::empty({rows + 1, 2}), at::ones({rows + 1, 2}), counts, counts).wait();
    });
    EXPECT_EQ(message, "all_to_all #0: rank 0 sends 3 rows to rank 1, which expects 5");
  });
}

TEST(SharedMemory, TellsBothRanksOfAMessageOfAnotherSize) {
  run_shared(2, [](Communicator& comm) {
    const auto message = error_of<CommError>([&] {
      if (comm.rank() == 0) comm.send(at::ones({8}), 1).wait();
      if (comm.rank() == 1) comm.receive(at::ones({7}), 0).wait();
      comm.barrier().wait();
    });
    EXPECT_EQ(message,
              "message from rank 0 to rank 1 tag 0: sent send float32[8], wanted receive "
              "float32[7]");
  });
}

TEST(SharedMemory, WritesNothingOfAMessageThatDoesNotFit) {
  const auto memory = at::zeros({64});
  run_shared(2, [&](Communicator& comm) {
    error_of<CommError>([&] {
      const auto first = at::ones({1});
      if (comm.rank() == 0) {
        comm.send(first, 1).wait();
        std::this_thread::sleep_for(10ms);  // nobody waits over there any more
        comm.send(at::ones({64}), 1).wait();
      } else {
        comm.receive(first, 0).wait();
        // The member's thread sleeps now, and the message has come.
        std::this_thread::sleep_for(40ms);
        comm.receive(memory.narrow(0, 0, 7), 0).wait();
      }
      comm.barrier().wait();
    });
    std::this_thread::sleep_for(20ms);
  });
  EXPECT_EQ(memory.count_nonzero().item<int64_t>(), 0);
}

TEST(SharedMemory, NamesTheRanksThatDoNotComeOnAll) {
  SignalFlag failed;
  run_shared(
      4,
      [&](Communicator& comm) {
        if (comm.rank() % 2 == 1) failed.await();
        const auto message = error_of<CommError>([&] { comm.barrier().wait(); });
        failed.raise();
        expect_contains(message, "barrier #0 on rank ");
        expect_contains(message, " of 4: no answer in 300 ms (barrier); not arrived: ranks 1, 3");
      },
      300ms);
}

TEST(SharedMemory, NamesTheSenderThatDoesNotCome) {
  SignalFlag failed;
  run_shared(
      3,
      [&](Communicator& comm) {
        if (comm.rank() == 0) failed.await();
        if (comm.rank() != 2) return;
        const auto message = error_of<CommError>([&] { comm.receive(at::ones({7}), 0, 5).wait(); });
        failed.raise();
        EXPECT_EQ(message,
                  "receive #0 from 0 tag 5 on rank 2 of 3: no answer in 100 ms "
                  "(receive float32[7]); not arrived: rank 0");
      },
      100ms);
}

TEST(SharedMemory, NamesTheRankThatLeft) {
  run_shared(2, [](Communicator& comm) {
    if (comm.rank() == 1) return;
    EXPECT_EQ(
        error_of<CommError>([&] { comm.barrier().wait(); }),
        "rank 1 of 2 left before barrier #0 (barrier): its communicator was destroyed; did it "
        "take fewer steps than the others?");
  });
}

TEST(SharedMemory, TellsTheOthersOfAnAbort) {
  run_shared(3, [](Communicator& comm) {
    if (comm.rank() == 2) {
      std::this_thread::sleep_for(50ms);
      comm.abort("loss is nan");
    }
    EXPECT_EQ(error_of<CommError>([&] { comm.barrier().wait(); }), "rank 2 of 3: loss is nan");
  });
}

TEST(SharedMemory, CarriesOutWhatADestroyedCommunicatorIssued) {
  auto world = make_shared_memory_threads(2, 10s);
  auto buffer = at::ones({3});
  (void)world[0]->allreduce(at::ones({3}));
  (void)world[0]->send(at::ones({100'000}), 1);
  world[0].reset();
  world[1]->allreduce(buffer).wait();
  EXPECT_EQ(buffer[0].item<float>(), 2);
  auto message = at::zeros({100'000});
  world[1]->receive(message, 0).wait();
  EXPECT_TRUE(at::equal(message, at::ones({100'000})));
}

TEST(SharedMemory, WorkOutlivesItsCommunicator) {
  auto world = make_shared_memory_threads(2, 10s);
  auto buffer = at::ones({3});
  auto work = world[0]->allreduce(buffer);
  world[0].reset();
  world[1]->allreduce(at::ones({3})).wait();
  work.wait();
  EXPECT_EQ(buffer[0].item<float>(), 2);
}

TEST(SharedMemory, EndsQuicklyWhereARankThrows) {
  const double seconds = seconds_of([] {
    run_shared(
        2, [](Communicator&) {}, 10s);  // threads and pages are warm
    auto world = make_shared_memory_threads(2, 10s);
    try {
      const auto comm = std::move(world[0]);
      (void)comm->barrier();
      throw DataError("truncated file");
    } catch (const DataError&) {
    }
    const auto message = error_of<CommError>([&] {
      for (int i = 0; i < 2; ++i) world[1]->barrier().wait();  // rank 0 may have come to the first
    });
    expect_contains(message, "rank 0 of 2 left before barrier #");
    expect_contains(message, "(barrier): an exception ended it");
  });
  EXPECT_LT(seconds, 5);
}

TEST(SharedMemory, StartsWithoutBeingWaitedFor) {
  run_shared(2, [](Communicator& comm) {
    for (const auto pause : {0ms, 30ms}) {
      for (int i = 0; i < 300; ++i) comm.barrier().wait();  // the habit of waiting at once
      std::this_thread::sleep_for(pause);
      auto work = comm.allreduce(at::ones({3}));
      const auto limit = std::chrono::steady_clock::now() + 5s;
      while (!work.is_completed() && std::chrono::steady_clock::now() < limit) {
        std::this_thread::sleep_for(1ms);
      }
      EXPECT_TRUE(work.is_completed());
    }
  });
}

TEST(SharedMemory, HasAThousandOperationsInFlight) {
  run_shared(3, [](Communicator& comm) {
    std::vector<at::Tensor> buffers;
    std::vector<Work> works;
    for (int i = 0; i < 1000; ++i) {
      buffers.push_back(at::full({1 + i % 50}, i, at::kLong));
      works.push_back(comm.allreduce(buffers.back()));
    }
    for (int i = 999; i >= 0; --i) {
      works[i].wait();
      ASSERT_EQ(buffers[i][i % 50].item<int64_t>(), 3 * i);
    }
  });
}

TEST(SharedMemory, SendsLargeMessagesBothWaysAtOnce) {
  run_shared(3, [](Communicator& comm) {
    std::vector<Work> works;
    std::vector<at::Tensor> received;
    for (int r = 0; r < 3; ++r) {
      if (r == comm.rank()) continue;
      works.push_back(comm.send(at::full({500'001}, comm.rank()), r, 1));
    }
    for (auto& work : works) work.wait();
    for (int r = 0; r < 3; ++r) {
      if (r == comm.rank()) continue;
      auto buffer = at::empty({500'001}, at::full({1}, r).scalar_type());
      comm.receive(buffer, r, 1).wait();
      EXPECT_TRUE(at::equal(buffer, at::full({500'001}, r)));
    }
  });
}

TEST(SharedMemory, MatchesATagBehindALargeMessageOfAnother) {
  run_shared(2, [](Communicator& comm) {
    if (comm.rank() == 0) {
      auto large = comm.send(at::ones({300'000}), 1, 1);
      comm.send(at::full({3}, 2.0F), 1, 2).wait();
      return large.wait();
    }
    auto small = at::zeros({3});
    comm.receive(small, 0, 2).wait();
    EXPECT_EQ(small[0].item<float>(), 2);
    auto large = at::zeros({300'000});
    comm.receive(large, 0, 1).wait();
    EXPECT_TRUE(at::equal(large, at::ones({300'000})));
  });
}

TEST(SharedMemory, MessagesPassACollectiveThatWaits) {
  run_shared(2, [](Communicator& comm) {
    const int peer = 1 - comm.rank();
    std::vector<Work> works;
    if (comm.rank() == 0) works.push_back(comm.barrier());
    for (int i = 0; i < 1000; ++i) {
      auto sent = comm.send(at::full({100}, i, at::kLong), peer, i % 7);
      auto buffer = at::empty({100}, at::kLong);
      comm.receive(buffer, peer, i % 7).wait();
      ASSERT_EQ(buffer[99].item<int64_t>(), i);
      sent.wait();
    }
    if (comm.rank() == 1) works.push_back(comm.barrier());
    for (auto& work : works) work.wait();
  });
}

TEST(SharedMemory, HasTwoWorldsBesideEachOther) {
  auto other = make_shared_memory_threads(2, 20s);
  run_shared(2, [&](Communicator& comm) {
    auto in_other = at::ones({50'000});
    auto in_this = at::ones({50'000});
    auto first = other[comm.rank()]->allreduce(in_other);
    auto second = comm.allreduce(in_this, ReduceOp::maximum);
    second.wait();
    first.wait();
    EXPECT_EQ(in_other[49'999].item<float>(), 2);
    EXPECT_EQ(in_this[49'999].item<float>(), 1);
  });
}

TEST(SharedMemory, SaysThatThereIsNoRoom) {
  const auto name = unused_name();
  const int size = 1'000'000;  // some terabytes, if it were only promised
  const auto message = error_of<CommError>([&] {
    (void)make_shared_memory_communicator({name, 0, size, 100ms, nullptr});
  });
  expect_contains(message, name);
  EXPECT_FALSE(has_name(name));
}

}  // namespace
}  // namespace isobar::test::shared_memory_test
