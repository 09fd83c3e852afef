// SPDX-License-Identifier: Apache-2.0
// One rank that does collectives until the file FOLDER/end is there, and compares every result with
// what it must be.
//
//   link_process BACKEND SILENCE_MS TIMEOUT_MS FOLDER
//
// Says "ready", and in the end what it saw, as lines of JSON in FOLDER/RANK: a launcher whose own
// connections break takes the ranks' output with it.
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace isobar;
using Clock = std::chrono::steady_clock;

constexpr int64_t kWarmUp = 5;

struct Tally {
  int64_t checked = 0;
  int64_t wrong = 0;
  /// The longest that a single one took.
  double longest_s = 0;
};

double now_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

class Diary {
 public:
  Diary(const std::string& folder, int rank)
      : file_(folder + "/" + std::to_string(rank), std::ios::app) {}

  void say(nlohmann::json line) {
    line["time_s"] = now_s();
    line["pid"] = getpid();
    file_ << line.dump() << std::endl;
  }

 private:
  std::ofstream file_;
};

/// What `rank` brings to the `number`-th collective: integers whose sums are exact.
at::Tensor values(int64_t count, int64_t rank, int64_t number) {
  return ((at::arange(count) * 7 + rank * 13 + number) % 97).to(at::kFloat);
}

at::Tensor sum_of_all(int64_t count, int size, int64_t number) {
  auto sum = at::zeros({count});
  for (int rank = 0; rank < size; ++rank) sum += values(count, rank, number);
  return sum;
}

bool check_allreduce(Communicator& comm, int64_t count, int64_t number) {
  auto buffer = values(count, comm.rank(), number);
  comm.allreduce(buffer).wait();
  return at::equal(buffer, sum_of_all(count, comm.size(), number));
}

bool check_reduce_scatter(Communicator& comm, int64_t count, int64_t number) {
  auto output = at::empty({count});
  comm.reduce_scatter(output, values(count * comm.size(), comm.rank(), number)).wait();
  const auto sum = sum_of_all(count * comm.size(), comm.size(), number);
  return at::equal(output, sum.slice(0, comm.rank() * count, (comm.rank() + 1) * count));
}

bool check_all_gather(Communicator& comm, int64_t count, int64_t number) {
  auto output = at::empty({count * comm.size()});
  comm.all_gather(output, values(count, comm.rank(), number)).wait();
  std::vector<at::Tensor> all;
  for (int rank = 0; rank < comm.size(); ++rank) all.push_back(values(count, rank, number));
  return at::equal(output, at::cat(all));
}

bool check_broadcast(Communicator& comm, int64_t count, int64_t number) {
  const auto root = static_cast<int>(number % comm.size());
  auto buffer = values(count, comm.rank(), number);
  comm.broadcast(buffer, root).wait();
  return at::equal(buffer, values(count, root, number));
}

/// The `number`-th collective, which is the same on all ranks; false for a wrong result.
bool is_right(Communicator& comm, int64_t number) {
  std::minstd_rand random(static_cast<unsigned>(number) * 7919 + 17);
  random.discard(8);
  const auto kind = random() % 6;
  const auto count = (int64_t{1} << (random() % 18)) + static_cast<int64_t>(random() % 7);
  if (kind == 0) return check_reduce_scatter(comm, count, number);
  if (kind == 1) return check_all_gather(comm, count, number);
  if (kind == 2) return check_broadcast(comm, count, number);
  return check_allreduce(comm, count, number);
}

/// True on all ranks as soon as one says so.
bool agree_to_end(Communicator& comm, bool own) {
  auto flag = at::full({1}, own ? 1.0F : 0.0F);
  comm.allreduce(flag, ReduceOp::maximum).wait();
  return flag.item<float>() != 0.0F;
}

void run(Communicator& comm, const std::string& folder, Tally& tally, Diary& diary) {
  for (int64_t number = 0;; ++number) {
    if (number == kWarmUp) diary.say({{"ready", comm.rank()}});
    const auto begin = Clock::now();
    if (number % 16 == 0 && agree_to_end(comm, std::filesystem::exists(folder + "/end"))) return;
    if (!is_right(comm, number)) ++tally.wrong;
    ++tally.checked;
    const std::chrono::duration<double> took = Clock::now() - begin;
    tally.longest_s = std::max(tally.longest_s, took.count());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  at::set_num_threads(1);
  Tally tally;
  std::string error;
  int rank = -1;
  try {
    const auto comm =
        make_communicator({.backend = argv[1],
                           .timeout = std::chrono::milliseconds(std::atoi(argv[3])),
                           .silence_limit = std::chrono::milliseconds(std::atoi(argv[2]))});
    rank = comm->rank();
    Diary diary(argv[4], rank);
    try {
      run(*comm, argv[4], tally, diary);
    } catch (const std::exception& caught) {
      error = caught.what();
    }
    diary.say({{"rank", rank},
               {"checked", tally.checked},
               {"wrong", tally.wrong},
               {"longest_s", tally.longest_s},
               {"error", error}});
    // The launcher ends those that are late, so nobody leaves before all have had the time to say.
    if (!error.empty()) {
      sleep(2);
      std::_Exit(3);
    }
  } catch (const std::exception& caught) {
    Diary(argv[4], rank).say({{"rank", rank}, {"error", caught.what()}});
    std::_Exit(4);
  }
  return 0;
}
