// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/scoring.hpp>

#include <isobar/comm/communicator.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace isobar::scoring_test {
namespace {

/// Two days of the example data, to the given target hours.
std::shared_ptr<const SampleSet> samples(const std::vector<int64_t>& targets,
                                         const std::vector<int64_t>& references) {
  static const auto dataset = std::make_shared<const Dataset>(
      DatasetOptions{.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}});
  const Normalizer normalizer({"t2m"}, {{280, 5}});
  return std::make_shared<const SampleSet>(
      dataset, normalizer,
      SampleOptions{.input_hours = {0}, .target_hours = targets, .reference_hours = references},
      parse_period("2019-03-05", "2019-03-07"));
}

/// The analysis, kept.
Task persistence() {
  Task task;
  task.forecast = [](const Batch& b) { return b.state.expand_as(b.target); };
  return task;
}

TEST(Scoring, TakesTheLastLeadTimeAndItsReference) {
  const auto comm = make_self_communicator();
  const ProcessGrid grid(*comm, 1);
  const auto both = samples({6, 12}, {-18, -12}), last = samples({12}, {-12});
  const auto points = last->points();
  const EvaluationOptions options{
      .area = at::full({points}, 1.0 / static_cast<double>(points), at::kDouble), .batch = 5};
  const auto score = [&](const auto& set) {
    return evaluate_last_leads(persistence(), {set}, grid, options).scores.at(0);
  };
  // A set to 12 h alone begins at earlier analyses, whose target at 6 h is in no period.
  const auto every = evaluate_every_lead(persistence(), both, grid, options).scores.at(1);
  const auto found = score(both);
  EXPECT_EQ(found.lead_hours, 12);
  EXPECT_EQ(found.samples, both->size());
  const auto &a = found.variables.at(0), &b = every.variables.at(0);
  EXPECT_DOUBLE_EQ(a.rmse, b.rmse);
  EXPECT_DOUBLE_EQ(a.persistence, a.rmse);
  EXPECT_DOUBLE_EQ(a.previous_day, b.previous_day);
  EXPECT_NE(a.previous_day, every.variables.at(0).rmse);
  EXPECT_EQ(score(last).lead_hours, 12);
}

}  // namespace
}  // namespace isobar::scoring_test
