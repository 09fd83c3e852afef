// SPDX-License-Identifier: Apache-2.0
// Real NCCL on real GPUs: `nccl_gpu_test RANKS` starts itself once for each rank. Where there are
// fewer GPUs than ranks they share: NCCL refuses two ranks on one GPU of one node, so each rank
// says that it is a node of its own (NCCL_HOSTID), and they talk by sockets.
#include <isobar/comm/device_order.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <csignal>
#include <spawn.h>
#include <unistd.h>

#include "comm/carried_communicator.hpp"
#include "comm/expect_error.hpp"
#include "comm/nccl/communicator.hpp"
#include "comm/scenarios.hpp"

extern char** environ;

namespace isobar::test {
namespace {

using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

constexpr int kSkipped = 77;
constexpr std::chrono::seconds kTimeout{60};

int gpus() { return c10::impl::VirtualGuardImpl(c10::kCUDA).deviceCount(); }

/// What a rank was started with.
struct Place {
  int rank = 0;
  int size = 1;
  fs::path folder;

  int device() const { return rank % gpus(); }
};

Place& place() {
  static Place here;
  return here;
}

// --- a world, with the folder as the wire for its name

void write_whole(const fs::path& file, const std::vector<char>& bytes) {
  const auto partial = file.string() + ".partial";
  std::ofstream(partial, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  fs::rename(partial, file);
}

std::vector<char> read_when_there(const fs::path& file) {
  const auto until = Clock::now() + kTimeout;
  while (!fs::exists(file) && Clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A world of all ranks; `name` is used once.
std::unique_ptr<Communicator> world(const std::string& name, NcclOptions options = {},
                                    std::shared_ptr<FirstCause> cause = nullptr) {
  const auto file = place().folder / name;
  if (place().rank == 0 && place().size > 1) write_whole(file, make_nccl_unique_id());
  options.rank = place().rank;
  options.size = place().size;
  options.device_index = place().device();
  if (place().size > 1) options.unique_id = read_when_there(file);
  return make_nccl_communicator(options, cause ? cause : std::make_shared<FirstCause>());
}

at::TensorOptions on_gpu() {
  return at::TensorOptions().device(at::kCUDA, static_cast<at::DeviceIndex>(place().device()));
}

// --- the tests, run by every rank

class GpuScenarios : public testing::TestWithParam<Scenario> {};

TEST_P(GpuScenarios, Behave) {
  for (const bool deterministic : {false, true}) {
    SCOPED_TRACE(deterministic ? "deterministic" : "NCCL's order");
    const std::string name = std::string(GetParam().name) + (deterministic ? "d" : "n");
    const auto comm = carried(world(name, {.timeout = kTimeout, .deterministic = deterministic}),
                              gpu_carrier(place().device()));
    GetParam().run(*comm);
  }
}

INSTANTIATE_TEST_SUITE_P(Nccl, GpuScenarios, testing::ValuesIn(collective_scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

/// Keeps the current stream busy for a good while.
at::Tensor busy() {
  auto x = at::full({2048, 2048}, 1e-4, on_gpu());
  for (int i = 0; i < 50; ++i) x = x.matmul(x) * 1e-4;
  return x;
}

TEST(NcclOnGpu, AnOperationWaitsForItsInputAndTheStreamForTheResult) {
  const auto comm = world("order", {.timeout = kTimeout});
  for (int i = 0; i < 20; ++i) {
    auto buffer = at::zeros({1 << 20}, on_gpu());
    buffer.add_(busy().sum() * 0 + 1);  // there once the device has worked a while
    auto work = comm->allreduce(buffer);
    work.wait();
    const auto doubled = buffer * 2;  // nothing but the stream's order protects it
    EXPECT_EQ(doubled.min().item<float>(), 2.0F * static_cast<float>(comm->size()));
  }
}

TEST(NcclOnGpu, MemoryInFlightIsNotUsedAnew) {
  const auto comm = world("memory", {.timeout = kTimeout});
  std::vector<at::Tensor> results;
  for (int i = 0; i < 50; ++i) {
    auto source = at::full({1 << 18}, static_cast<double>(i), on_gpu());
    auto result = at::empty({(1 << 18) * comm->size()}, on_gpu());
    auto work = comm->all_gather(result, source);
    source = at::Tensor();
    auto scribble = at::full({1 << 18}, -1.0, on_gpu());  // would take the freed memory
    work.wait();
    EXPECT_EQ(result.min().item<float>(), static_cast<float>(i));
    EXPECT_EQ(result.max().item<float>(), static_cast<float>(i));
  }
}

TEST(NcclOnGpu, DeterministicGivesTheBitsOfTheThreadsBackend) {
  const auto comm = world("bits", {.timeout = kTimeout, .deterministic = true});
  const auto values = [](int rank, at::ScalarType type) {
    return (at::sin(at::arange(0, 10007, at::kDouble) * (1.7 + rank)) * (1 + rank)).to(type);
  };
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
    at::Tensor expected;
    run_ranks(comm->size(), [&](Communicator& threads) {
      auto mine = values(threads.rank(), type);
      threads.allreduce(mine).wait();
      if (threads.rank() == 0) expected = mine;
    });
    auto buffer = values(comm->rank(), type).to(on_gpu());
    comm->allreduce(buffer).wait();
    EXPECT_TRUE(at::equal(buffer.cpu(), expected)) << type;
  }
}

TEST(NcclOnGpu, CommunicatorsWorkInTurnOnStreamsOfTheCaller) {
  const auto comm = world("turns", {.timeout = kTimeout});
  const auto other = comm->split(0, -comm->rank());
  const c10::impl::VirtualGuardImpl guard(c10::kCUDA);
  const c10::StreamGuard stream(guard.getStreamFromGlobalPool(on_gpu().device(), false));
  for (int i = 0; i < 100; ++i) {
    auto first = at::ones({1000 + i}, on_gpu());
    auto second = at::ones({5000}, on_gpu());
    auto first_work = comm->allreduce(first);
    auto second_work = other->allreduce(second, ReduceOp::maximum);
    second_work.wait();
    first_work.wait();
    EXPECT_EQ(first.max().item<float>(), static_cast<float>(comm->size()));
  }
}

TEST(NcclOnGpu, ATaskComputesBetweenItsOperationsOnAStreamOfItsOwn) {
  const auto comm = world("tasks", {.timeout = kTimeout});
  const auto own = comm->split(0, comm->rank());
  const auto order = DeviceOrder::of(*comm, on_gpu().device());
  if (!order) GTEST_SKIP() << "one rank issues nothing";
  const auto size = static_cast<float>(comm->size());
  for (int i = 0; i < 20; ++i) {
    auto values = at::zeros({1 << 20}, on_gpu());
    values.add_(busy().sum() * 0 + 1);
    auto task = order->push("two sums", [&] {
      own->allreduce(values).wait();
      values.mul_(2);
      own->allreduce(values).wait();
    });
    auto outside = at::ones({1000}, on_gpu());
    comm->allreduce(outside).wait();
    task.wait();
    EXPECT_EQ(values.min().item<float>(), 2 * size * size);
    EXPECT_EQ(outside.min().item<float>(), size);
  }
}

TEST(NcclOnGpu, ARankThatDoesNotTakePartIsAnErrorInTime) {
  if (place().size == 1) GTEST_SKIP() << "one rank waits for nobody";
  const auto cause = std::make_shared<FirstCause>();
  auto comm = world("late", {.timeout = std::chrono::seconds(5)}, cause);
  comm->barrier().wait();
  if (place().rank == 0) {
    const auto start = Clock::now();
    auto buffer = at::ones({1 << 20}, on_gpu());
    const auto error = error_of<CommError>([&] { comm->allreduce(buffer).synchronize(); });
    expect_contains(error, "no answer in 5 s");
    EXPECT_LT(Clock::now() - start, std::chrono::seconds(10));
  } else {
    std::this_thread::sleep_for(std::chrono::seconds(7));
    cause->record("rank 0 has given up");  // as the control connection would say
  }
  comm.reset();
  const auto next = world("after", {.timeout = kTimeout});
  next->barrier().wait();  // the process and its GPU are as good as new
}

// --- the launcher

/// The environment of one rank.
std::vector<std::string> environment_of(int rank) {
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) variables.emplace_back(*entry);
  variables.push_back("NCCL_HOSTID=isobar-test-" + std::to_string(rank));
  variables.emplace_back("NCCL_NET=Socket");
  variables.emplace_back("NCCL_IB_DISABLE=1");
  if (std::getenv("NCCL_SOCKET_IFNAME") == nullptr) variables.emplace_back("NCCL_SOCKET_IFNAME=lo");
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (auto& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

pid_t start_rank(const std::string& program, int rank, int size, const fs::path& folder) {
  std::vector<std::string> arguments = {program, "--rank", std::to_string(rank),
                                        std::to_string(size), folder.string()};
  auto variables = environment_of(rank);
  pid_t child = -1;
  posix_spawn(&child, program.c_str(), nullptr, nullptr, pointers(arguments).data(),
              pointers(variables).data());
  return child;
}

/// Waits for all ranks; those that outlast the limit are ended. True if all are well.
bool all_well(std::vector<pid_t> children, std::chrono::seconds limit) {
  const auto until = Clock::now() + limit;
  bool well = true;
  while (!children.empty()) {
    std::erase_if(children, [&](pid_t child) {
      int status = 0;
      if (waitpid(child, &status, WNOHANG) != child) return false;
      well &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
      return true;
    });
    if (Clock::now() > until) {
      for (const auto child : children) kill(child, SIGKILL);
      well = false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return well;
}

int launch(const std::string& program, int size) {
  if (gpus() == 0) {
    std::puts("skipped: no GPU is usable here");
    return kSkipped;
  }
  auto pattern = (fs::temp_directory_path() / "isobar-nccl-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return 1;
  std::vector<pid_t> children;
  for (int r = 0; r < size; ++r) children.push_back(start_rank(program, r, size, pattern));
  const bool well = all_well(children, std::chrono::seconds(270));
  fs::remove_all(pattern);
  return well ? 0 : 1;
}

int without_gpu() {
  if (gpus() > 0) {
    std::puts("skipped: a GPU is here");
    return kSkipped;
  }
  const auto error = error_of<UsageError>([] { (void)make_nccl_communicator({}, nullptr); });
  std::printf("%s; %s\n", nccl_library_version().c_str(), error.c_str());
  return nccl_library_version().empty() || error.find("no GPU 0") == std::string::npos ? 1 : 0;
}

}  // namespace
}  // namespace isobar::test

int main(int argc, char** argv) {
  using namespace isobar::test;
  testing::InitGoogleTest(&argc, argv);
  if (argc == 2 && std::string(argv[1]) == "--without-gpu") return without_gpu();
  if (argc == 2) return launch(argv[0], std::stoi(argv[1]));
  if (argc != 5) return 2;
  place() = {std::stoi(argv[2]), std::stoi(argv[3]), argv[4]};
  return RUN_ALL_TESTS();
}
