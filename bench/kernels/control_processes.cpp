// SPDX-License-Identifier: Apache-2.0
// Each rank is a child by fork(), which shares the program's pages with the others, so that
// thousands fit into one machine. They wait for the end of a pipe, which all see at once, and write
// what they find into memory that they share with their parent.
#include "bench/kernels/control_processes.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/stopwatch.hpp>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/control/control.hpp"
#include "comm/control_members.hpp"

namespace isobar::bench {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kLimit = 120s;

double now_s() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

enum class Stage { none, started, measured, knows, wrong };

/// The rank that is killed.
int victim_of(int size) { return size / 2; }

/// What one rank has found, in memory that all share.
struct Found {
  std::atomic<Stage> stage{Stage::none};
  double started_at_s = 0, known_at_s = 0;
  double private_bytes = 0, bytes_sent = 0, bytes_received = 0;
  double quiet_core = 0;  ///< of the control thread
  int sockets = 0;
};

/// An array of them.
class Shared {
 public:
  explicit Shared(int size) : size_(size) {
    void* memory =
        mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ISOBAR_CHECK(memory != MAP_FAILED, "control_scale: no memory for ", size, " ranks");
    found_ = static_cast<Found*>(memory);
    std::uninitialized_default_construct_n(found_, size_);
    port_ = new (found_ + size_) std::atomic<int>(0);
  }
  ~Shared() { munmap(found_, bytes()); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  Found& operator[](int rank) { return found_[rank]; }
  std::atomic<int>& port() { return *port_; }

 private:
  size_t bytes() const { return sizeof(Found) * static_cast<size_t>(size_ + 1); }

  int size_;
  Found* found_;
  std::atomic<int>* port_;
};

/// Children wait until the parent lets go of it.
class Gate {
 public:
  Gate() { ISOBAR_CHECK(pipe(ends_.data()) == 0, "control_scale: no pipe"); }
  ~Gate() {
    open();
    close(ends_[0]);
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  void open() {
    if (ends_[1] >= 0) close(std::exchange(ends_[1], -1));
  }
  void wait() {
    open();  // the child's own end
    char nothing = 0;
    while (read(ends_[0], &nothing, 1) > 0) {
    }
  }

 private:
  std::array<int, 2> ends_{};
};

/// What this process does not share with the one that it comes from.
double private_bytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  double kib = 0;
  for (std::string word; file >> word;) {
    if (word == "Private_Dirty:") file >> kib;
  }
  return 1024 * kib;
}

/// Of all TCP connections of this process.
void count_sockets(Found& found) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    tcp_info info{};
    socklen_t length = sizeof(info);
    const int file = std::stoi(entry.path().filename());
    if (getsockopt(file, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) continue;
    ++found.sockets;
    found.bytes_sent += static_cast<double>(info.tcpi_bytes_acked);
    found.bytes_received += static_cast<double>(info.tcpi_bytes_received);
  }
}

ControlOptions options_of(int rank, int size) {
  return {.rank = rank,
          .size = size,
          .host = "node" + std::to_string(1000 + rank / 4),
          .addresses = {"127.0.0.1"},
          .port = 0,
          .token = "control_scale",
          .secret = "of this benchmark alone",
          .start_timeout = kLimit,
          .silence_limit = 60s};
}

/// The rounds of make_communicator().
bool makes_rounds(Control& control, int size) {
  const bool several = size <= 4 || !control.all_equal("node" + std::to_string(control.rank() / 4));
  const auto common = control.gather("infiniband");
  const auto last = control.gather("");
  return several && std::cmp_equal(common.size(), size) &&
         std::count(last.begin(), last.end(), "") == size;
}

/// What rank 0's control thread takes while nobody calls anything.
double quiet_core(double seconds) {
  std::this_thread::sleep_for(1s);
  const Stopwatch watch;
  const double before = control_thread_s();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  return (control_thread_s() - before) / watch.elapsed_s();
}

void be_rank(int rank, int size, double seconds, Shared& all, Gate& end) {
  auto& found = all[rank];
  const double before = private_bytes();
  auto options = options_of(rank, size);
  auto listener = rank == 0 ? std::make_unique<ControlListener>() : nullptr;
  if (listener) all.port() = listener->port();
  while (all.port() == 0) std::this_thread::sleep_for(1ms);
  options.port = all.port();
  const auto cause = std::make_shared<FirstCause>();
  const auto control = Control::open(options, std::move(listener), cause);
  const bool is_right = makes_rounds(*control, size);
  found.started_at_s = now_s();
  std::vector<std::unique_ptr<Watch>> watches;
  for (const auto& one : test::communicators_of(rank, size)) {
    watches.push_back(control->watch(one.id, one.rank, one.size));
  }
  found.private_bytes = private_bytes() - before;
  count_sockets(found);
  const auto wanted = "rank " + std::to_string(victim_of(size)) + " of " + std::to_string(size);
  const CauseSubscription subscription(cause, [&] {
    found.known_at_s = now_s();
    found.stage = cause->message().starts_with(wanted) ? Stage::knows : Stage::wrong;
  });
  found.stage = is_right ? Stage::started : Stage::wrong;
  if (rank == 0) {
    found.quiet_core = quiet_core(seconds);
    found.stage = cause->failed() ? Stage::wrong : Stage::measured;
  }
  end.wait();
}

/// The processes, which end with their owner.
class Ranks {
 public:
  Ranks(int size, double seconds) : all_(size) {
    for (int rank = 0; rank < size; ++rank) {
      const pid_t child = fork();
      if (child == 0) run(rank, size, seconds);
      if (child < 0) stop();
      ISOBAR_CHECK(child > 0, "control_scale: no process for rank ", rank, " of ", size);
      processes_.push_back(child);
    }
  }
  ~Ranks() { stop(); }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  /// Lets them connect.
  void start() { begin_.open(); }

  void kill(int rank) const { ::kill(processes_[static_cast<size_t>(rank)], SIGKILL); }

  const Found& operator[](int rank) { return all_[rank]; }
  int size() const { return static_cast<int>(processes_.size()); }

  /// Whether all but one, or of all the first, have come to a stage, as far as that takes no longer
  /// than the limit.
  bool all_are(Stage stage, int but = -1, int first = std::numeric_limits<int>::max()) {
    const auto until = Clock::now() + kLimit;
    for (int rank = 0; rank < std::min(first, size());) {
      const auto is = all_[rank].stage.load();
      if (rank == but || is == stage || (is > stage && is != Stage::wrong)) {
        ++rank;
      } else if (is == Stage::wrong || Clock::now() > until) {
        return false;
      } else {
        std::this_thread::sleep_for(5ms);
      }
    }
    return true;
  }

  bool any_is(Stage stage) {
    for (int rank = 0; rank < size(); ++rank) {
      if (all_[rank].stage == stage) return true;
    }
    return false;
  }

 private:
  [[noreturn]] void run(int rank, int size, double seconds) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    begin_.wait();
    end_.open();
    try {
      be_rank(rank, size, seconds, all_, end_);
    } catch (const std::exception& error) {
      all_[rank].stage = Stage::wrong;
      fprintf(stderr, "control_scale: rank %d: %s\n", rank, error.what());
    }
    _exit(0);
  }

  void stop() {
    for (const auto process : processes_) ::kill(process, SIGKILL);
    for (const auto process : processes_) waitpid(process, nullptr, 0);
    processes_.clear();
  }

  Shared all_;
  Gate begin_, end_;
  std::vector<pid_t> processes_;
};

nlohmann::json costs_of(const Found& found) {
  return {{"sockets", found.sockets},
          {"private_bytes", found.private_bytes},
          {"bytes_sent", found.bytes_sent},
          {"bytes_received", found.bytes_received}};
}

/// Of the others the one with the median memory.
nlohmann::json costs_of_others(Ranks& ranks) {
  std::vector<const Found*> others;
  for (int rank = 1; rank < ranks.size(); ++rank) others.push_back(&ranks[rank]);
  const auto middle = others.begin() + static_cast<std::ptrdiff_t>(others.size() / 2);
  std::nth_element(others.begin(), middle, others.end(), [](const Found* a, const Found* b) {
    return a->private_bytes < b->private_bytes;
  });
  return costs_of(**middle);
}

template <typename Value>
double largest(Ranks& ranks, int but, const Value& value) {
  double most = 0;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    if (rank != but) most = std::max(most, value(ranks[rank]));
  }
  return most;
}

}  // namespace

double control_thread_s() {
  double total = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    double nanoseconds = 0;
    if (name == "isobar-control") std::ifstream(task.path() / "schedstat") >> nanoseconds;
    total += nanoseconds * 1e-9;
  }
  return total;
}

nlohmann::json measure_processes(int size, double seconds) {
  nlohmann::json row{{"ranks", size}, {"error", 1}};
  Ranks ranks(size, seconds);
  std::this_thread::sleep_for(1s);  // until all wait
  const double begin_s = now_s();
  ranks.start();
  if (!ranks.all_are(Stage::started)) return row;
  row["start_s"] =
      largest(ranks, -1, [](const Found& found) { return found.started_at_s; }) - begin_s;
  row["rank_0"] = costs_of(ranks[0]);
  row["others"] = costs_of_others(ranks);
  if (!ranks.all_are(Stage::measured, -1, 1)) return row;
  row["quiet_core"] = ranks[0].quiet_core;
  const int victim = victim_of(size);
  // Who knows of it before has another cause.
  if (!ranks.all_are(Stage::started) || ranks.any_is(Stage::knows)) return row;
  const double killed_s = now_s();
  ranks.kill(victim);
  if (!ranks.all_are(Stage::knows, victim)) return row;
  row["kill_s"] =
      largest(ranks, victim, [](const Found& found) { return found.known_at_s; }) - killed_s;
  row["error"] = 0;
  return row;
}

}  // namespace isobar::bench
