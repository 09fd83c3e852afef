// SPDX-License-Identifier: Apache-2.0
#include <isobar/weather/job_check.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

#include <isobar/core/error.hpp>
#include <isobar/weather/network_plan.hpp>
#include <gtest/gtest.h>

namespace isobar::job_check_test {
namespace {

using Lines = std::vector<std::string>;

/// On a file of 4 x 5 points, with room for everything.
class JobCheck : public testing::Test {
 protected:
  JobCheck() {
    test::write_weather(folder_ / "a.nc", {.hours = {0, 24, 48, 72, 96},
                                           .latitudes = {50, 45, 40, 35},
                                           .longitudes = {0, 5, 10, 15, 20}});
  }

  Experiment experiment(const Lines& overrides = {}) const {
    const auto text = "run: {name: test}\ndata:\n  path: " + (folder_ / "a.nc").string() + R"(
  variables: [t]
  input_hours: [-6, 0]
  train: {begin: 2019-03-01, end: 2019-03-03}
  validation: {begin: 2019-03-03, end: 2019-03-04}
  test: {begin: 2019-03-04, end: 2019-03-05}
graph: {hidden_level: 4, margin_degrees: 10}
model: {channels: 8, layers: 1}
optimizer: {learning_rate: 1.0e-3}
train: {steps: 1000}
)";
    return read_experiment(Config::parse(text, "test.yaml", overrides));
  }

  std::string complaint(const Lines& overrides = {}) const {
    return test::message_of<UsageError>([&] { check_job(experiment(overrides), resources_); });
  }

  void expect_refused(const std::string& part, const Lines& overrides = {}) const {
    const auto said = complaint(overrides);
    EXPECT_NE(said.find(part), std::string::npos) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }

  test::TemporaryFolder folder_;
  JobResources resources_{.machine = "leonardo",
                          .nodes = 2,
                          .ranks_per_node = 4,
                          .gpu_memory_bytes = int64_t{64} << 30,
                          .node_memory_bytes = int64_t{512} << 30,
                          .minutes = 60};
};

TEST_F(JobCheck, LetsPassWhatHasRoom) {
  EXPECT_EQ(check_job(experiment(), resources_), Lines());
  resources_.node_gpus = 4;
  EXPECT_EQ(check_job(experiment({"device=cuda"}), resources_), Lines());
  resources_ = {};
  EXPECT_EQ(check_job(experiment(), resources_), Lines()) << "what is not known refuses nothing";
}

TEST_F(JobCheck, WarnsOfGpusThatNothingUses) {
  resources_.node_gpus = 4;
  const auto warnings = check_job(experiment(), resources_);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("reserves the 4 GPUs of each node"), std::string::npos);
}

TEST_F(JobCheck, RefusesAProgramWithoutGpusAndBackendsOfOneNode) {
  expect_refused("comm.backend: shm reaches the ranks of one node", {"comm.backend=shm"});
  expect_refused("comm.backend: self is one rank alone, and there are 8", {"comm.backend=self"});
  resources_.node_gpus = 4;
  resources_.program_has_gpus = false;
  expect_refused("this program was built without GPUs", {"device=cuda"});
}

TEST_F(JobCheck, RefusesRanksThatAreNoWholeModels) {
  expect_refused("8 ranks (2 nodes of 4) do not divide into models of 3", {"model.ranks=3"});
}

TEST_F(JobCheck, RefusesAGpuWhereThereIsNone) {
  resources_.node_gpus = 0;
  expect_refused("device: cuda, and the nodes of leonardo have no GPUs", {"device=cuda"});
}

TEST_F(JobCheck, RefusesDataThatAreNotThere) {
  expect_refused("data.path: 'nowhere/b.nc' is not there, seen from", {"data.path=nowhere/b.nc"});
}

TEST_F(JobCheck, RefusesPeriodsAndVariablesThatTheDataDoNotHave) {
  expect_refused("data.train: no time of", {"data.train={begin: 2031-01-01, end: 2032-01-01}"});
  const auto said = test::message_of<DataError>(
      [&] { check_job(experiment({"data.variables=[absent]"}), resources_); });
  EXPECT_NE(said.find("absent"), std::string::npos) << said;
}

TEST_F(JobCheck, RefusesAStepThatMemoryDoesNotHold) {
  const auto graph = make_graph(experiment());
  const auto ranks = model_sizes(experiment(), graph);
  const auto peak = plan_steps(experiment(), ranks, 0).back().memory.peak_bytes;

  resources_.node_memory_bytes = 4 * peak;
  EXPECT_EQ(check_job(experiment(), resources_), Lines()) << "a quarter of the node for each rank";
  resources_.node_memory_bytes = 4 * (peak - 1);
  expect_refused("of a node; take more model.ranks (now 1)");
  resources_.node_gpus = 4;
  resources_.gpu_memory_bytes = 1 << 10;
  expect_refused("one has 1.0 KiB of a GPU", {"device=cuda"});
}

TEST_F(JobCheck, RefusesALongerTrainingThanTheJobOnlyWithoutACheckpointInIt) {
  EXPECT_EQ(complaint(), "nothing thrown") << "a step's time is not known";
  resources_.step_seconds = 3.6;  // 1000 of the 1000 steps
  EXPECT_EQ(check_job(experiment(), resources_), Lines());
  resources_.step_seconds = 7.2;
  expect_refused("train.validate_every is 0, one at the end; set train.validate_every=250 or less");
  expect_refused("train.validate_every is 501;", {"train.validate_every=501"});
  const auto warnings = check_job(experiment({"train.validate_every=200"}), resources_);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("near step 500, and the checkpoint of step 400 stays"),
            std::string::npos)
      << warnings[0];
  resources_.step_seconds = 3000;
  expect_refused("in which not two are made");
}

TEST_F(JobCheck, WarnsWhereARefitMayNotEnd) {
  resources_.step_seconds = 2;
  EXPECT_EQ(check_job(experiment({"train.refit=true"}), resources_).size(), 1u);
  resources_.step_seconds = 1.5;
  EXPECT_EQ(check_job(experiment({"train.refit=true"}), resources_), Lines());
}

}  // namespace
}  // namespace isobar::job_check_test
