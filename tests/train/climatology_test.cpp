// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/climatology.hpp>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

#include <isobar/comm/thread_world.hpp>
#include <isobar/core/error.hpp>
#include <isobar/train/climatology_groups.hpp>
#include <isobar/train/scoring.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <set>

namespace isobar::climatology_test {
namespace {

constexpr int64_t kPoints = 6;

int64_t hour(int64_t h) { return parse_time("2019-03-01") + 3600 * h; }

/// Random values of two variables every `step` hours on 2 x 3 points, a tenth of them missing,
/// and at one point every midnight's.
std::vector<double> random_values(int64_t times, int64_t step, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<double> values;
  for (int64_t i = 0; i < times * kPoints; ++i) {
    const double value = uniform(random);
    const bool midnight = i / kPoints * step % 24 == 0 && i % kPoints == 4;
    values.push_back(midnight || random() % 10 == 0 ? std::nan("") : value);
  }
  return values;
}

class Climatologies : public testing::Test {
 protected:
  void write(int64_t times, int64_t step) {
    const auto size = static_cast<hsize_t>(times);
    test::NcWriter writer((folder_ / "a.nc").string(),
                          {{"time", size}, {"latitude", 2}, {"longitude", 3}});
    std::vector<double> hours;
    for (int64_t t = 0; t < times; ++t) hours.push_back(static_cast<double>(t * step));
    writer.add({.name = "time", .dimensions = {"time"}, .values = hours, .type = H5T_STD_I64LE});
    writer.text("time", "units", "hours since 2019-03-01");
    writer.add({.name = "latitude", .dimensions = {"latitude"}, .values = {50, 49}});
    writer.text("latitude", "units", "degrees_north");
    writer.add({.name = "longitude", .dimensions = {"longitude"}, .values = {-1, 0, 1}});
    writer.text("longitude", "units", "degrees_east");
    for (unsigned v = 0; v < 3; ++v) {
      const std::string name = std::string(1, static_cast<char>('t' + v));
      writer.add({.name = name,
                  .dimensions = {"time", "latitude", "longitude"},
                  .values = random_values(times, step, v)});
      writer.attach_dimensions(name);
    }
  }

  /// With no cache, so that every field comes from the file.
  std::shared_ptr<const SampleSet> samples(const at::Tensor& rows = {}) const {
    const auto dataset = std::make_shared<Dataset>(DatasetOptions{.paths = {folder_ / "a.nc"},
                                                                  .variables = {"t", "u", "v"},
                                                                  .allow_missing = true,
                                                                  .cache_bytes = 0});
    const Normalizer normalizer({"t", "u", "v"}, std::vector<VariableStatistics>(3, {1, 2}));
    const SampleOptions options{
        .input_hours = {0}, .target_hours = {12}, .forcing_variables = {"u"}, .rows = rows};
    return std::make_shared<SampleSet>(dataset, normalizer, options,
                                       Period{hour(0), hour(1'000'000)});
  }

  test::TemporaryFolder folder_;
};

/// [N, P]: the mean of `times`, each with its weight, by a loop over them.
at::Tensor plain_mean(const SampleSet& samples, const std::vector<std::pair<int64_t, double>>& of) {
  auto sum = at::zeros({kPoints, 2}, at::kDouble), weight = at::zeros_like(sum);
  for (const auto& [time, factor] : of) {
    const auto field = samples.field(time).to(at::kDouble);
    for (int64_t n = 0; n < kPoints; ++n) {
      for (int64_t p = 0; p < 2; ++p) {
        if (std::isnan(field[n][p].item<double>())) continue;
        sum[n][p] += factor * field[n][p];
        weight[n][p] += factor;
      }
    }
  }
  return sum / weight;
}

bool near(const at::Tensor& a, const at::Tensor& b) {
  return at::allclose(a, b, 1e-13, 1e-13, /*equal_nan=*/true);
}

TEST_F(Climatologies, AreTheMeanByTimeOfDayOnAnyNumberOfRanks) {
  write(41, 6);
  const ClimatologyOptions options{.period = {hour(0), hour(160)}, .times = {hour(180), hour(198)}};
  const auto whole = samples();
  std::vector<std::pair<int64_t, double>> noons, mornings;
  for (int64_t h = 0; h < 160; h += 24) {
    if (h + 12 < 160) noons.emplace_back(hour(h + 12), 1);
    if (h + 6 < 160) mornings.emplace_back(hour(h + 6), 1);
  }
  const auto noon = plain_mean(*whole, noons), morning = plain_mean(*whole, mornings);
  for (const auto& [world, members] : {std::pair{1, 1}, {2, 1}, {4, 1}, {2, 2}, {4, 2}}) {
    run_ranks(world, [&, members = members](Communicator& comm) {
      const ProcessGrid grid(comm, members);
      const auto rows = at::arange(grid.model().rank(), kPoints, members, at::kLong);
      const Climatology climatology(*samples(rows), options, grid);
      const auto fields = climatology.at({hour(174)}, {6, 24});
      ASSERT_EQ(fields.sizes(), (std::vector<int64_t>{1, 2, kPoints / members, 2}));
      EXPECT_TRUE(near(fields[0][0], noon.index_select(0, rows)));
      EXPECT_TRUE(near(fields[0][1], morning.index_select(0, rows)));
    });
  }
}

TEST_F(Climatologies, HaveNoValueWhereThereIsNone) {
  write(41, 6);
  auto comm = make_self_communicator();
  const Climatology climatology(*samples(), {.period = {hour(0), hour(160)}, .times = {hour(192)}},
                                ProcessGrid(*comm, 1));
  const auto missing = climatology.at({hour(186)}, {6})[0][0].isnan();
  EXPECT_TRUE(missing[4].all().item<bool>());
  EXPECT_EQ(missing.sum().item<int64_t>(), 2) << "the point's two variables";
}

TEST_F(Climatologies, LookAtDaysOfTheYearAroundWhereTheyHaveAYear) {
  write(2 * 900, 12);  // two and a half years
  auto comm = make_self_communicator();
  const auto all = samples();
  const int64_t target = parse_time("2021-01-10T12:00");
  const Climatology climatology(*all,
                                {.period = {hour(0), parse_time("2021-03-01")}, .times = {target}},
                                ProcessGrid(*comm, 1));
  std::vector<std::pair<int64_t, double>> of;
  for (int64_t t = parse_time("2019-03-01T12:00"); t < parse_time("2021-03-01"); t += 86400) {
    // Over the new year a day is one farther unless a 366th lies between: 2020 had one.
    const int64_t day = static_cast<int64_t>(day_of_year(t));
    const int64_t apart = std::min(std::abs(day - 9), 366 - std::abs(day - 9));
    if (apart < 30) of.emplace_back(t, 30.0 - static_cast<double>(apart));
  }
  ASSERT_EQ(of.size(), 2 * 59 - 1) << "the first winter has no day 366";
  EXPECT_TRUE(near(climatology.at({target - 6 * 3600}, {6})[0][0], plain_mean(*all, of)));
}

TEST_F(Climatologies, SayHowFarTheyAreAndKnowNoOtherTime) {
  write(41, 6);
  auto comm = make_self_communicator();
  std::vector<int64_t> seen;
  const Climatology climatology(*samples(),
                                {.period = {hour(12), hour(60)},
                                 .times = {hour(180)},
                                 .progress =
                                     [&](int64_t done, int64_t total) {
                                       seen.push_back(done);
                                       EXPECT_EQ(total, 8);
                                     }},
                                ProcessGrid(*comm, 1));
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), 8);
  EXPECT_EQ(test::message_of<UsageError>([&] { climatology.at({hour(0)}, {6}); }),
            "Climatology: it was not made for 2019-03-01T06:00");
}

TEST_F(Climatologies, RefuseAPeriodWithoutATimeOnEveryRank) {
  write(8, 6);
  run_ranks(2, [&](Communicator& comm) {
    const ProcessGrid grid(comm, 1);
    const auto set = samples();
    EXPECT_EQ(test::message_of<DataError>([&] {
                Climatology(*set, {.period = {hour(600), hour(624)}, .times = {hour(6)}}, grid);
              }),
              "climatology: the data have no time from 2019-03-26T00:00 to 2019-03-27T00:00");
  });
}

TEST_F(Climatologies, AreDividedByTimeOfDayAndDayWhereMemoryIsShort) {
  write(2 * 900, 12);
  const auto set = samples();
  const Period year{parse_time("2019-03-01"), parse_time("2021-03-01")};
  const auto count = [&](int64_t memory_bytes) {
    const auto groups = group_by_climatology({{set, {12}}}, {year, memory_bytes});
    std::set<int64_t> scored;
    for (const auto& group : groups) {
      std::set<std::pair<int64_t, int64_t>> slots;
      for (const int64_t time : group.times) {
        slots.emplace(static_cast<int64_t>(day_of_year(time)),
                      to_date(time, Calendar::standard).second_of_day);
      }
      EXPECT_LE(climatology_bytes(std::ssize(slots), kPoints, 2),
                std::max(memory_bytes, climatology_bytes(60, kPoints, 2)));
      for (const int64_t sample : group.samples.at(0)) EXPECT_TRUE(scored.insert(sample).second);
    }
    EXPECT_EQ(std::ssize(scored), set->size());
    return std::ssize(groups);
  };
  EXPECT_EQ(count(climatology_bytes(2 * 366, kPoints, 2)), 1);
  EXPECT_EQ(count(climatology_bytes(366, kPoints, 2)), 2);
  const Period season{parse_time("2019-03-01"), parse_time("2019-09-01")};
  EXPECT_EQ(group_by_climatology({{set, {12}}}, {season, 1}).size(), 1) << "two times of day";
  // 366 days at midnight, then at noon: groups go on over the change from one to the other.
  EXPECT_EQ(count(1), 13);
}

TEST_F(Climatologies, GiveTheSameScoresInPartsAsWhole) {
  write(2 * 400, 12);
  const auto set = samples();
  Task task;
  task.forecast = [](const Batch& b) { return 0.5 * b.state.nan_to_num(); };
  const auto scores = [&](Communicator& world, int64_t memory_bytes) {
    const EvaluationOptions options{
        .area = at::full({kPoints}, 1.0 / kPoints, at::kDouble),
        .batch = 7,
        .climatology =
            ClimatologySource{.period = {hour(0), hour(24 * 400)}, .memory_bytes = memory_bytes}};
    return evaluate_last_leads(task, {set, set}, ProcessGrid(world, 1), options).scores;
  };
  for (const int ranks : {1, 2}) {
    run_ranks(ranks, [&](Communicator& world) {
      const auto whole = scores(world, int64_t{1} << 30), parts = scores(world, 1);
      ASSERT_EQ(whole.size(), 2);
      for (size_t s = 0; s < 2; ++s) {
        EXPECT_EQ(parts[s].samples, whole[s].samples);
        for (size_t v = 0; v < 2; ++v) {
          EXPECT_NEAR(parts[s].variables[v].acc, whole[s].variables[v].acc, 1e-12);
          EXPECT_NEAR(parts[s].variables[v].rmse, whole[s].variables[v].rmse, 1e-12);
          EXPECT_TRUE(std::isfinite(whole[s].variables[v].acc));
        }
      }
    });
  }
}

}  // namespace
}  // namespace isobar::climatology_test
