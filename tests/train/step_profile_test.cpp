// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/step_profile.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"

#include <isobar/comm/census.hpp>
#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/hdf5/handle.hpp>
#include <isobar/train/trainer.hpp>
#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <functional>
#include <numeric>
#include <thread>

#include "train/energy_meter.hpp"

namespace isobar::step_profile_test {
namespace {

/// Forecasts x(t + 6 h) = a · x(t).
struct Factor : torch::nn::Module {
  Factor() { a = register_parameter("a", at::ones({1})); }
  at::Tensor forward(const Batch& batch) {
    return batch.state.select(1, batch.state.size(1) - 1).unsqueeze(1) * a;
  }
  at::Tensor a;
};

Task factor_task() {
  const auto net = std::make_shared<Factor>();
  Task task;
  task.module = net;
  task.loss = [net](const Batch& b) { return (net->forward(b) - b.target).square().mean(); };
  task.forecast = [net](const Batch& b) { return net->forward(b); };
  return task;
}

std::shared_ptr<const Dataset> open_data(int64_t cache_bytes) {
  return std::make_shared<const Dataset>(DatasetOptions{
      .paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}, .cache_bytes = cache_bytes});
}

std::shared_ptr<const SampleSet> samples(const std::shared_ptr<const Dataset>& dataset) {
  const Normalizer normalizer({"t2m"}, compute_statistics(*dataset, {0, 100, 200, 300}));
  return std::make_shared<const SampleSet>(dataset, normalizer,
                                           SampleOptions{.input_hours = {0}, .target_hours = {6}},
                                           parse_period("2019-03-01", "2019-03-05"));
}

TrainingData data() {
  static const auto dataset = open_data(int64_t{1} << 30);
  return {samples(dataset), {}, {}};
}

TrainerOptions options(int64_t steps = 8) {
  TrainerOptions result;
  result.steps = steps;
  result.batch = 2;
  result.schedule.peak = 0.01;
  result.log_every = 2;
  return result;
}

nlohmann::json read_json(const std::filesystem::path& file) {
  std::ifstream in(file);
  return nlohmann::json::parse(in);
}

double sum_of_values(const nlohmann::json& numbers) {
  double sum = 0;
  for (const auto& [name, number] : numbers.items()) sum += number.get<double>();
  return sum;
}

struct Run {
  StepProfile profile;  ///< rank 0's
  ReducerCounters reducer;
  nlohmann::json json;     ///< of the run's folder
  std::string error = {};  ///< "; " between those of the ranks
};

/// Trains on two ranks; `task` is made on each.
Run train(
    const TrainerOptions& settings,
    const std::function<Task(Communicator&)>& task = [](Communicator&) { return factor_task(); }) {
  const test::TemporaryFolder folder;
  Run result;
  std::array<std::string, 2> errors;
  run_ranks(2, [&](Communicator& comm) {
    const ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder.path(), "factor");
    Trainer trainer(task(comm), data(), grid, settings);
    try {
      const auto summary = trainer.run(run);
      if (comm.rank() == 0) {
        result.profile = summary.profile;
        result.reducer = summary.reducer;
      }
    } catch (const Error& error) {
      EXPECT_TRUE(error.known_to_all());
      errors[comm.rank()] = error.what();
    }
  });
  if (!errors[0].empty()) result.error = errors[0] + "; " + errors[1];
  const auto file = folder.path() / "factor" / "profile.json";
  if (std::filesystem::exists(file)) result.json = read_json(file);
  return result;
}

TEST(StepProfile, HasPartsThatSumToTheStepOnEveryRank) {
  const auto profile = train(options()).json;
  ASSERT_EQ(profile["schema"], "isobar.profile.1");
  ASSERT_EQ(profile["ranks"].size(), 2);
  double mean = 0;
  for (const auto& rank : profile["ranks"]) {
    EXPECT_EQ(rank["seconds"].size(), profile["parts"].size());
    for (const auto& part : profile["parts"]) EXPECT_GE(rank["seconds"][part].get<double>(), 0);
    EXPECT_NEAR(sum_of_values(rank["seconds"]), rank["step_s"].get<double>(), 1e-12);
    EXPECT_EQ(rank["host"], host_name());
    EXPECT_GT(rank["peak_memory_bytes"], 1 << 20);
    mean += rank["step_s"].get<double>() / 2;
  }
  EXPECT_NEAR(profile["step_s"].get<double>(), mean, 1e-12);
  EXPECT_NEAR(profile["samples_per_s"].get<double>() * mean, 4, 1e-9) << "two samples a rank";
}

TEST(StepProfile, LeavesTheFirstStepsOut) {
  const auto numbers = [](const StepProfile& profile) {
    return std::pair(profile.warmup_steps, profile.steps);
  };
  EXPECT_EQ(numbers(train(options(1)).profile), std::pair(int64_t{0}, int64_t{1}));
  EXPECT_EQ(numbers(train(options(8)).profile), std::pair(int64_t{2}, int64_t{6}));
  EXPECT_EQ(numbers(train(options(24)).profile), std::pair(int64_t{5}, int64_t{19}));
}

TEST(StepProfile, GivesTimeToThePartThatTookIt) {
  const auto slow = [](Communicator& comm) {
    auto task = factor_task();
    task.loss = [loss = task.loss, rank = comm.rank()](const Batch& b) {
      if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(4));
      return loss(b);
    };
    return task;
  };
  const auto ranks = train(options(), slow).profile.ranks;
  const auto seconds = [&](int rank, StepPart part) {
    return ranks[rank].seconds[static_cast<int>(part)];
  };
  EXPECT_GE(seconds(1, StepPart::forward), 0.004);
  EXPECT_LT(seconds(0, StepPart::forward), seconds(1, StepPart::forward));
  EXPECT_GT(seconds(0, StepPart::exposed_comm), seconds(1, StepPart::exposed_comm))
      << "the others wait for it";
}

TEST(StepProfile, ForgetsTheTimeOfTheWarmUp) {
  const auto uneven = [](Communicator& comm) {
    auto task = factor_task();
    task.loss = [loss = task.loss, rank = comm.rank(), step = 0](const Batch& b) mutable {
      const bool sleeps = ++step <= 2 ? rank == 1 : rank == 0;
      if (sleeps) std::this_thread::sleep_for(std::chrono::milliseconds(step <= 2 ? 100 : 4));
      return loss(b);
    };
    return task;
  };
  const auto ranks = train(options(), uneven).profile.ranks;
  const auto forward = static_cast<int>(StepPart::forward);
  EXPECT_GT(ranks[0].seconds[forward], ranks[1].seconds[forward]);
}

TEST(StepProfile, CountsAWaitInAnyPartAsExposedCommunication) {
  const auto communicating = [](Communicator& comm) {
    auto task = factor_task();
    task.loss = [loss = task.loss, &comm](const Batch& b) {
      const CollectiveAsker asker("mine");
      if (comm.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(4));
      comm.allreduce(at::ones({8})).wait();
      return loss(b);
    };
    return task;
  };
  const auto profile = train(options(), communicating).profile;
  const auto found = std::find_if(profile.collectives.begin(), profile.collectives.end(),
                                  [](const auto& row) { return row.asker == "mine"; });
  ASSERT_NE(found, profile.collectives.end());
  EXPECT_DOUBLE_EQ(found->calls, 1);
  EXPECT_DOUBLE_EQ(found->bytes, 32);
  const auto& seconds = profile.ranks[0].seconds;
  EXPECT_GT(seconds[static_cast<int>(StepPart::exposed_comm)],
            seconds[static_cast<int>(StepPart::forward)])
      << "rank 0 waits 4 ms in its forward pass";
}

// Rank 1 reads every sample from the file, and somebody holds up all that is read there; rank 0 has
// its samples in memory.
TEST(StepProfile, ShowsASlowLoaderOnTheRankThatHasIt) {
  const test::TemporaryFolder folder;
  StepProfile profile;
  std::jthread disturber;
  run_ranks(2, [&](Communicator& comm) {
    const auto train = samples(open_data(comm.rank() == 0 ? int64_t{1} << 30 : 1));
    std::vector<int64_t> all(train->size());
    std::iota(all.begin(), all.end(), 0);
    if (comm.rank() == 0) (void)train->get(all);
    const ProcessGrid grid(comm, 1);
    RunFolder run(comm, folder.path(), "factor");
    Trainer trainer(factor_task(), {train, {}, {}}, grid, options());
    if (comm.rank() == 0) {
      disturber = std::jthread([](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
          {
            const Hdf5Session session;
            std::this_thread::sleep_for(std::chrono::milliseconds(3));
          }
          std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
      });
    }
    const auto summary = trainer.run(run);
    if (comm.rank() == 0) profile = summary.profile;
  });
  const auto waited = [&](int rank) {
    return profile.ranks[rank].seconds[static_cast<int>(StepPart::data_wait)];
  };
  EXPECT_GT(waited(1), waited(0));
}

TEST(StepProfile, CountsWhatAStepSendsByWhoAsks) {
  const auto collectives = train(options()).json["collectives"];
  const auto row = [&](const std::string& asker) {
    for (const auto& each : collectives) {
      if (each["asker"] == asker) return each;
    }
    return nlohmann::json();
  };
  EXPECT_EQ(row("gradients")["operation"], "allreduce");
  EXPECT_DOUBLE_EQ(row("gradients")["calls_per_step"].get<double>(), 1);
  EXPECT_GE(row("gradients")["bytes_per_step"].get<double>(), 4);
  // The losses of a log line: their mean, and whether they are finite; a line every second step.
  EXPECT_DOUBLE_EQ(row("loss")["calls_per_step"].get<double>(), 1);
  EXPECT_TRUE(row("bucket_plan").is_null()) << "of the first step, which is warm-up";
  for (const auto& each : collectives) {
    EXPECT_GE(each["seconds_per_step"], each["exposed_s_per_step"]) << each["asker"];
  }
}

/// Seconds by part of one step.
StepParts parts_of(const StepTimeline::Rank& rank) {
  StepParts seconds{};
  for (const auto& span : rank.parts) {
    seconds[static_cast<int>(span.part)] += span.end_s - span.begin_s;
  }
  return seconds;
}

/// What it did one after the other, without its waits for others.
std::vector<std::string> work_of(const StepTimeline::Rank& rank) {
  std::vector<std::string> names;
  for (const auto& span : rank.parts) {
    if (span.part == StepPart::exposed_comm) continue;
    if (names.empty() || names.back() != name_of(span.part)) names.push_back(name_of(span.part));
  }
  return names;
}

/// The same for all ranks, by the step, counted from 1.
auto sleeping(const std::vector<int>& milliseconds) {
  return [=](Communicator&) {
    auto task = factor_task();
    task.loss = [=, loss = task.loss, step = size_t{0}](const Batch& b) mutable {
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds.at(step++)));
      return loss(b);
    };
    return task;
  };
}

/// Has several parameters, and so several buckets where these are small.
struct Factors : torch::nn::Module {
  Factors() {
    for (const char* name : {"a", "b", "c"}) register_parameter(name, at::ones({1}));
  }
  at::Tensor forward(const Batch& batch) {
    auto x = batch.state.select(1, batch.state.size(1) - 1).unsqueeze(1);
    for (const auto& factor : parameters()) x = x * factor;
    return x;
  }
};

Task factors_task() {
  const auto net = std::make_shared<Factors>();
  auto task = factor_task();
  task.module = net;
  task.loss = [net](const Batch& b) { return (net->forward(b) - b.target).square().mean(); };
  task.forecast = [net](const Batch& b) { return net->forward(b); };
  return task;
}

TEST(StepProfile, PutsTheSpansOfAStepOneAfterTheOther) {
  const auto timeline = train(options()).json["timeline"];
  EXPECT_GT(timeline["step"], 2) << "no step of the warm-up";
  EXPECT_LE(timeline["step"], 8);
  ASSERT_EQ(timeline["ranks"].size(), 2);
  for (const auto& rank : timeline["ranks"]) {
    double end_s = 0;
    for (const auto& span : rank["parts"]) {
      EXPECT_NEAR(span["begin_s"].get<double>(), end_s, 2e-9) << "no gap, no overlap";
      EXPECT_GT(span["end_s"], span["begin_s"]);
      end_s = span["end_s"].get<double>();
    }
    EXPECT_NEAR(rank["step_s"].get<double>(), end_s, 2e-9);
    ASSERT_EQ(rank["buckets"].size(), 1);
    const auto& bucket = rank["buckets"][0];
    EXPECT_GE(bucket["begin_s"], 0);
    EXPECT_LE(bucket["begin_s"], bucket["end_s"]);
    EXPECT_LE(bucket["end_s"], rank["step_s"]);
    EXPECT_GE(bucket["bytes"], 4);
  }
}

TEST(StepProfile, SpansAddUpToThePartsOfTheirStep) {
  const auto profile = train(options(1)).profile;
  ASSERT_EQ(profile.timeline.ranks.size(), 2);
  for (size_t rank = 0; rank < 2; ++rank) {
    const auto seconds = parts_of(profile.timeline.ranks[rank]);
    for (int part = 0; part < kStepParts; ++part) {
      EXPECT_NEAR(seconds[part], profile.ranks[rank].seconds[part], 1e-8)
          << name_of(static_cast<StepPart>(part));
    }
    EXPECT_GT(seconds[static_cast<int>(StepPart::exposed_comm)], 0);
  }
}

TEST(StepProfile, FollowsEveryBucketOfTheReducer) {
  auto settings = options();
  settings.ddp.reducer.caps = {.cap_bytes = 4, .first_cap_bytes = 4};
  const auto run = train(settings, [](Communicator&) { return factors_task(); });
  ASSERT_EQ(run.reducer.collectives, 3 * run.reducer.steps);
  for (const auto& rank : run.profile.timeline.ranks) {
    ASSERT_EQ(rank.buckets.size(), 3);
    double waited_s = 0;
    for (int64_t i = 0; i < 3; ++i) {
      EXPECT_EQ(rank.buckets[i].index, i);
      if (i > 0) EXPECT_GE(rank.buckets[i].begin_s, rank.buckets[i - 1].begin_s);
      waited_s += rank.buckets[i].waited_s;
    }
    EXPECT_LE(waited_s, parts_of(rank)[static_cast<int>(StepPart::exposed_comm)] + 1e-8);
  }
}

TEST(StepProfile, ShowsEachBatchOfAStepThatAccumulates) {
  auto settings = options();
  settings.accumulate = 2;
  settings.clip_norm = 1;
  for (const auto& rank : train(settings).profile.timeline.ranks) {
    const std::vector<std::string> wanted{"other",    "data_wait", "copy",      "forward",
                                          "backward", "data_wait", "copy",      "forward",
                                          "backward", "other",     "optimizer", "other"};
    EXPECT_EQ(work_of(rank), wanted);
  }
}

TEST(StepProfile, PutsAWaitWhereItWas) {
  const auto communicating = [](Communicator& comm) {
    auto task = factor_task();
    task.loss = [loss = task.loss, &comm](const Batch& b) {
      comm.allreduce(at::ones({8})).wait();
      return loss(b);
    };
    return task;
  };
  for (const auto& rank : train(options(), communicating).profile.timeline.ranks) {
    const auto& parts = rank.parts;
    const auto waits = std::find_if(parts.begin(), parts.end(), [](const auto& span) {
      return span.part == StepPart::exposed_comm;
    });
    ASSERT_TRUE(waits != parts.begin() && waits + 1 < parts.end());
    EXPECT_EQ((waits - 1)->part, StepPart::forward);
    EXPECT_EQ((waits + 1)->part, StepPart::forward);
    EXPECT_EQ(rank.buckets.size(), 1) << "a collective of the task is no bucket";
  }
}

// Of the six measured steps the third in length; the others are far from it.
TEST(StepProfile, ShowsAStepOfMedianLength) {
  const auto profile = train(options(), sleeping({0, 0, 0, 200, 100, 200, 0, 200})).profile;
  EXPECT_EQ(profile.timeline.step, 5);
  for (const auto& rank : profile.timeline.ranks) {
    EXPECT_GE(parts_of(rank)[static_cast<int>(StepPart::forward)], 0.1);
  }
}

TEST(StepProfile, IsQuietWithinItsBudget) {
  auto settings = options();
  settings.profile.collectives = {{"gradients", 1}, {"loss", 2}, {"parameters", 2}};
  EXPECT_EQ(train(settings).error, "");
}

TEST(StepProfile, EndsAllRanksWhereAStepAsksForMoreThanItsBudget) {
  auto settings = options(16);
  settings.profile.collectives = {{"gradients", 0}, {"loss", 2}, {"parameters", 2}};
  const std::string error =
      "train: step 5: 'gradients' made 1 collectives (allreduce), profile.collectives allows 0; "
      "find what asks for them, or allow gradients: 1";
  EXPECT_EQ(train(settings).error, error + "; " + error);
}

TEST(StepProfile, EndsAllRanksWhereOneOfThemAsksForSomethingNew) {
  auto settings = options(16);
  settings.profile.collectives = {{"gradients", 1}, {"loss", 2}, {"parameters", 2}};
  const auto curious = [](Communicator& comm) {
    auto task = factor_task();
    task.loss = [loss = task.loss, &comm, step = 0](const Batch& b) mutable {
      if (++step >= 7 && comm.rank() == 1) {
        comm.send(at::ones({1}), 0).wait();
      } else if (step >= 7) {
        comm.receive(at::empty({1}), 1).wait();
      }
      return loss(b);
    };
    return task;
  };
  const auto error = train(settings, curious).error;
  EXPECT_NE(error.find("train: step 7: 'other' made 1 collectives ("), std::string::npos) << error;
  EXPECT_NE(error.find("allows 0 of a name that it does not have"), std::string::npos) << error;
}

TEST(StepProfile, JudgesByAPeakThatItIsTold) {
  auto settings = options();
  settings.accumulate = 2;
  settings.profile.flop_per_pass = 1e6;
  const auto unknown = train(settings).json;
  EXPECT_DOUBLE_EQ(unknown["flop_per_step"].get<double>(), 4e6) << "two passes on two ranks";
  EXPECT_TRUE(unknown["mfu"].is_null());
  settings.profile.peak_flop_per_s = 1e12;
  const auto known = train(settings).json;
  EXPECT_NEAR(known["mfu"].get<double>() * known["step_s"].get<double>() * 2e12, 4e6, 1e-3);
  settings.profile.flop_per_pass = 0;
  EXPECT_TRUE(train(settings).json["flop_per_step"].is_null());
}

TEST(StepProfile, IsATableThatNamesTheSlowestRank) {
  StepProfile profile;
  profile.steps = 10;
  profile.warmup_steps = 5;
  profile.step_s = 0.002;
  profile.samples_per_s = 1000;
  for (const auto& [host, forward] : {std::pair("n1", 0.001), std::pair("n2", 0.003)}) {
    RankProfile rank{.host = host, .step_s = forward, .peak_memory_bytes = 1 << 20};
    rank.seconds[static_cast<int>(StepPart::forward)] = forward;
    profile.ranks.push_back(rank);
  }
  const auto table = profile_table(profile);
  EXPECT_NE(table.find("steps 6 to 15: 2.00 ms a step, 1000.0 samples/s, MFU n/a\n"
                       " memory 1.0 MiB, energy n/a\n"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find(" forward          2.000     2.000 100.0 %      3.000  1 on n2\n"),
            std::string::npos)
      << table;
  EXPECT_EQ(collectives_table(profile), "no collectives\n");
}

class EnergyMeterTest : public ::testing::Test {
 protected:
  void zone(const std::string& zone, const std::string& name, int64_t microjoules) {
    std::filesystem::create_directories(folder_.path() / zone);
    std::ofstream(folder_.path() / zone / "name") << name << "\n";
    std::ofstream(folder_.path() / zone / "max_energy_range_uj") << 10'000'000 << "\n";
    std::ofstream(folder_.path() / zone / "energy_uj") << microjoules << "\n";
  }
  test::TemporaryFolder folder_;
};

TEST_F(EnergyMeterTest, AddsUpPackagesAndMemoryAlsoAfterTheirCountersBeganAgain) {
  zone("intel-rapl:0", "package-0", 1'000'000);
  zone("intel-rapl:0:0", "core", 500'000);
  zone("intel-rapl:0:1", "dram", 100'000);
  zone("intel-rapl:1", "psys", 4'000'000);
  EnergyMeter meter(folder_.path());
  zone("intel-rapl:0", "package-0", 3'000'000);
  zone("intel-rapl:0:0", "core", 1'500'000);
  zone("intel-rapl:0:1", "dram", 600'000);
  meter.read();
  EXPECT_NEAR(meter.joules().value(), 2.5, 1e-9);
  zone("intel-rapl:0", "package-0", 9'000'000);
  meter.skip();
  zone("intel-rapl:0", "package-0", 1'000'000);
  meter.read();
  EXPECT_NEAR(meter.joules().value(), 4.5, 1e-9);
}

TEST_F(EnergyMeterTest, KnowsNothingWhereItCannotRead) {
  EXPECT_FALSE(EnergyMeter(folder_.path()).joules());
  EXPECT_FALSE(EnergyMeter(folder_.path() / "none").joules());
  zone("intel-rapl:0", "package-0", 1);
  std::filesystem::remove(folder_.path() / "intel-rapl:0" / "energy_uj");
  EXPECT_FALSE(EnergyMeter(folder_.path()).joules());
}

}  // namespace
}  // namespace isobar::step_profile_test
