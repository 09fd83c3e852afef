// SPDX-License-Identifier: Apache-2.0
// Buckets in several stages over NCCL's backend, which issues in one order to the device.
#include <isobar/comm/process_grid.hpp>
#include <isobar/compress/block_int8.hpp>
#include <isobar/core/error.hpp>
#include <isobar/ddp/reducer.hpp>
#include <gtest/gtest.h>

#include <barrier>
#include <chrono>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "comm/expect_error.hpp"
#include "comm/nccl_double.hpp"
#include "comm/signal_flag.hpp"
#include "compress/methods.hpp"
#include "compress/world.hpp"
#include "ddp/exact.hpp"

namespace isobar::nccl_stages_test {
namespace {

using namespace test;
using std::chrono::milliseconds;

constexpr int kRanks = 4;
constexpr int64_t kBuckets = 3;

/// How buckets are reduced, and in how many collectives.
struct Way {
  std::string name;
  int model_size = 1;
  int stages = 1;
  std::function<std::shared_ptr<Compressor>()> compressor = [] { return nullptr; };
};

void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

std::shared_ptr<Compressor> power() {
  return make_power_sgd({.matrix_approximation_rank = 2, .start_step = 0, .compare_every = 1});
}
std::shared_ptr<Compressor> acp() {
  return make_acp_sgd({.matrix_approximation_rank = 2, .start_step = 0, .compare_every = 1});
}
std::shared_ptr<Compressor> int8() { return make_block_int8({.start_step = 0}); }

const std::vector<Way> kWays{{"two_levels", 2, 3},
                             {"acp_on_two_levels", 2, 3, acp},
                             {"power", 1, 2, power},
                             {"power_on_two_levels", 2, 4, power},
                             {"int8", 1, 2, int8}};

/// What a hook starts, gradient by gradient: a bucket for each, in the order of the plan.
class Model {
 public:
  Model(Communicator& world, const Way& way, std::shared_ptr<Compressor> compressor)
      : grid_(world, way.model_size),
        parameters_({parameter("c", {12, 12}), parameter("b", {16, 9}), parameter("a", {16, 10})}),
        reducer_(parameters_, grid_,
                 {.caps = kOneTensorABucket,
                  .levels = way.model_size > 1 ? GridLevels::two : GridLevels::flat,
                  .compressor = std::move(compressor)}) {}
  Model(Communicator& world, const Way& way) : Model(world, way, way.compressor()) {}

  void launch(int64_t bucket, int64_t step) {
    const auto& tensor = parameters_[kBuckets - 1 - bucket].tensor;
    const int rank = grid_.world().rank();
    (tensor * draw(tensor.sizes(), bucket, step, rank)).sum().backward();
  }

  void step(
      int64_t step, const std::function<void(int64_t)>& before_bucket = [](int64_t) {}) {
    reducer_.zero_grad();
    for (int64_t bucket = 0; bucket < kBuckets; ++bucket) {
      before_bucket(bucket);
      launch(bucket, step);
    }
    reducer_.finish();
  }

  std::vector<at::Tensor> gradients() const {
    std::vector<at::Tensor> list;
    for (const auto& p : parameters_) list.push_back(p.tensor.grad().clone());
    return list;
  }

  ProcessGrid& grid() { return grid_; }
  Reducer& reducer() { return reducer_; }

 private:
  ProcessGrid grid_;
  std::vector<NamedParameter> parameters_;
  Reducer reducer_;
};

/// As "allreduce on 1", communicators by the order in which they first come: groups that are not
/// this rank's have numbers, too.
std::vector<std::string> order_of(const std::vector<std::string>& issued) {
  std::map<std::string, size_t> places;
  std::vector<std::string> order;
  for (const auto& one : issued) {
    const auto id = one.rfind(' ') + 1;
    const auto place = places.emplace(one.substr(id), places.size()).first->second;
    order.push_back(one.substr(0, id) + std::to_string(place));
  }
  return order;
}

int64_t issued_count(const NcclDouble& nccl, int rank) {
  return static_cast<int64_t>(nccl.issued(rank).size());
}

void await_issued(const NcclDouble& nccl, int rank, int64_t count) {
  for (int i = 0; i < 10'000 && issued_count(nccl, rank) < count; ++i) {
    std::this_thread::sleep_for(milliseconds(1));
  }
}

void expect_clean(const NcclDouble& nccl) {
  EXPECT_EQ(nccl.violations(), std::vector<std::string>());
  EXPECT_EQ(nccl.communicators(), 0);
}

class NcclStages : public testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(Ways, NcclStages, testing::ValuesIn(kWays),
                         [](const auto& info) { return info.param.name; });

TEST_P(NcclStages, OfABucketAreIssuedBeforeTheNextIsFull) {
  NcclDouble nccl(kRanks, {.tasks_on_host = true});
  run_on_double(nccl, kRanks, {}, [&](Communicator& world) {
    Model model(world, GetParam());
    for (int64_t step = 0; step < 3; ++step) {
      const auto before = issued_count(nccl, world.rank());
      model.step(step, [&](int64_t bucket) {
        const auto wanted = before + bucket * GetParam().stages;
        await_issued(nccl, world.rank(), wanted);
        EXPECT_EQ(issued_count(nccl, world.rank()), wanted) << "before bucket " << bucket;
      });
    }
    EXPECT_EQ(model.reducer().counters().launched_in_backward, 3 * kBuckets);
  });
  expect_clean(nccl);
}

// What the model exchanges itself falls between buckets, and ranks come to each at another time.
TEST_P(NcclStages, AreIssuedInOneOrderBesideTheModelsOwnExchanges) {
  NcclDouble nccl(kRanks, {.answers_in_progress = 4, .tasks_on_host = true});
  run_on_double(nccl, kRanks, {}, [&](Communicator& world) {
    Model model(world, GetParam());
    const auto halos = world.split(world.rank() / 2, 0);
    for (int64_t step = 0; step < 4; ++step) {
      std::vector<Work> works;
      auto halo = at::ones({5});
      model.step(step, [&](int64_t bucket) {
        std::this_thread::sleep_for(milliseconds((7 * world.rank() + 5 * bucket + step) % 11));
        works.push_back(halos->allreduce(halo));
      });
      for (auto& work : works) work.wait();
      EXPECT_EQ(halo[4].item<float>(), 8);
    }
  });
  for (int r = 1; r < kRanks; ++r) EXPECT_EQ(order_of(nccl.issued(r)), order_of(nccl.issued(0)));
  expect_clean(nccl);
}

/// By step and parameter.
using Results = std::vector<std::vector<at::Tensor>>;

Results results_of(Communicator& world, const Way& way) {
  Model model(world, way);
  Results results;
  for (int64_t step = 0; step < 6; ++step) {
    model.step(step);
    results.push_back(model.gradients());
  }
  EXPECT_GT(model.reducer().counters().payload_bytes, 0);
  return results;
}

TEST_P(NcclStages, GiveTheBitsOfThreads) {
  std::vector<Results> wanted(kRanks), got(kRanks);
  run_ranks(kRanks,
            [&](Communicator& world) { wanted[world.rank()] = results_of(world, GetParam()); });
  NcclDouble nccl(kRanks, {.tasks_on_host = true});
  run_on_double(nccl, kRanks, {.deterministic = true},
                [&](Communicator& world) { got[world.rank()] = results_of(world, GetParam()); });
  for (int r = 0; r < kRanks; ++r) {
    for (size_t step = 0; step < wanted[r].size(); ++step) {
      for (size_t p = 0; p < wanted[r][step].size(); ++p) {
        EXPECT_TRUE(at::equal(got.at(r).at(step).at(p), wanted[r][step][p]))
            << "rank " << r << ", step " << step << ", parameter " << p;
      }
    }
  }
}

// The others come only when all hooks of rank 0 have returned.
TEST_P(NcclStages, AreLaunchedWithoutWaitingWhileNcclConnects) {
  NcclDouble nccl(kRanks, {.answers_in_progress = 30, .tasks_on_host = true});
  SignalFlag launched;
  run_on_double(nccl, kRanks, {}, [&](Communicator& world) {
    Model model(world, GetParam());
    if (world.rank() > 0) {
      launched.await();
      EXPECT_TRUE(launched.is_raised());
    }
    for (int64_t bucket = 0; bucket < kBuckets; ++bucket) model.launch(bucket, 0);
    launched.raise();
    model.reducer().finish();
    EXPECT_EQ(model.reducer().counters().launched_in_backward, kBuckets);
  });
  expect_clean(nccl);
}

/// What each rank is told in step 2, whose second operation fails on rank 1.
std::vector<std::string> errors_of_step(const Way& way, NcclFaults faults, bool hangs) {
  faults.tasks_on_host = true;
  std::vector<int64_t> before(kRanks);
  std::barrier together(kRanks);  // else a rank may still be in step 1 when the world fails
  const auto body = [&](NcclDouble& nccl, Communicator& world, std::string* error) {
    Model model(world, way);
    for (int64_t step = 0; step < 2; ++step) model.step(step);
    together.arrive_and_wait();
    before[world.rank()] = issued_count(nccl, world.rank());
    if (error) *error = error_of<CommError>([&] { model.step(2); });
  };
  {
    NcclDouble nccl(kRanks, faults);
    run_on_double(nccl, kRanks, {}, [&](Communicator& world) { body(nccl, world, nullptr); });
  }
  (hangs ? faults.hanging_rank : faults.failing_rank) = 1;
  (hangs ? faults.hanging_operation : faults.failing_operation) = static_cast<int>(before[1]) + 1;
  NcclDouble nccl(kRanks, faults);
  std::vector<std::string> errors(kRanks);
  const auto start = std::chrono::steady_clock::now();
  run_on_double(nccl, kRanks, {.timeout = milliseconds(2000)},
                [&](Communicator& world) { body(nccl, world, &errors[world.rank()]); });
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(30'000));
  expect_clean(nccl);
  return errors;
}

TEST_P(NcclStages, EndAllRanksByTheFirstCauseWhereOneFails) {
  const auto errors = errors_of_step(GetParam(), {}, /*hangs=*/false);
  expect_contains(errors[1], ": remote process exited or there was a network error");
  for (const auto& error : errors) EXPECT_EQ(error, errors[1]);
}

TEST_P(NcclStages, EndAllRanksInTimeWhereOneHangs) {
  const auto errors = errors_of_step(GetParam(), {}, /*hangs=*/true);
  expect_contains(errors[1], "no answer in 2 s");
  expect_contains(errors[1], "(bucket ");
  for (const auto& error : errors) EXPECT_EQ(error, errors[1]);
}

TEST_P(NcclStages, MayBeUnderWayWhereTheReducerEnds) {
  NcclDouble nccl(kRanks, {.answers_in_progress = 20, .tasks_on_host = true});
  run_on_double(nccl, kRanks, {}, [&](Communicator& world) {
    for (int64_t launched = 1; launched <= kBuckets; ++launched) {
      Model model(world, GetParam());
      model.step(0);
      std::this_thread::sleep_for(milliseconds(5 * world.rank()));
      for (int64_t bucket = 0; bucket < launched; ++bucket) model.launch(bucket, 1);
    }
    auto buffer = at::ones({3});
    world.allreduce(buffer).wait();
    EXPECT_EQ(buffer[2].item<float>(), kRanks);
  });
  expect_clean(nccl);
}

/// Two allreduces a bucket.
class TwoSums : public Compressor {
 public:
  std::string description() const override { return "two_sums"; }
  int stages() const override { return 2; }
  void set_plan(const std::vector<NamedParameter>&, const std::vector<BucketPiece>& pieces,
                Communicator*) override {
    pieces_ = pieces;
  }
  bool begin_step() override { return true; }
  Work start(int64_t bucket, int, BucketChannel& channel) override {
    return channel.allreduce(pieces_[bucket].values);
  }
  void complete(int64_t) override {}
  CompressorState state() const override { return {}; }
  void load(const CompressorState&) override {}

 private:
  std::vector<BucketPiece> pieces_;
};

/// Rank 1 cannot start the second.
class NoMemory final : public TwoSums {
 public:
  Work start(int64_t bucket, int stage, BucketChannel& channel) override {
    if (stage == 1 && channel.rank() == 1) throw std::runtime_error("out of memory");
    return TwoSums::start(bucket, stage, channel);
  }
};

/// Knows where gradients were read, without keeping them alive.
class ReadsInPlace final : public TwoSums {
 public:
  bool reads_in_place() const override { return true; }
  Work start(int64_t bucket, int stage, BucketChannel& channel) override {
    const auto source = channel.source(0);
    if (source.defined()) read_.insert_or_assign(bucket, source.storage().getWeakStorageImpl());
    return TwoSums::start(bucket, stage, channel);
  }
  void complete(int64_t bucket) override {
    ++completed;
    EXPECT_FALSE(read_.at(bucket).expired()) << "bucket " << bucket;
  }

  int completed = 0;

 private:
  std::map<int64_t, c10::weak_intrusive_ptr<c10::StorageImpl>> read_;
};

// Their memory is the caller's stream's, who might write to it before the task's has read it.
TEST(NcclStage, ReadsGradientsThatLiveUntilItsBucketIsComplete) {
  NcclDouble nccl(kRanks, {.tasks_on_host = true});
  run_on_double(nccl, kRanks, {}, [&](Communicator& world) {
    const auto compressor = std::make_shared<ReadsInPlace>();
    Model model(world, {}, compressor);
    for (int64_t step = 0; step < 2; ++step) model.step(step);
    EXPECT_EQ(compressor->completed, 2 * kBuckets);
  });
  expect_clean(nccl);
}

TEST(NcclStage, ThatCannotStartIsEveryonesFirstCause) {
  NcclDouble nccl(kRanks, {.tasks_on_host = true});
  std::vector<std::string> errors(kRanks);
  run_on_double(nccl, kRanks, {}, [&](Communicator& world) {
    Model model(world, {}, std::make_shared<NoMemory>());
    errors[world.rank()] = error_of<CommError>([&] { model.step(0); });
  });
  for (const auto& error : errors) {
    EXPECT_EQ(error, "gradients of bucket 0 on rank 1 of 4: out of memory");
  }
  EXPECT_EQ(nccl.communicators(), 0);
}

}  // namespace
}  // namespace isobar::nccl_stages_test
