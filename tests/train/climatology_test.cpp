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

#include <atomic>
#include <cmath>
#include <map>
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
  void write(int64_t times, int64_t step, const std::string& calendar = "standard") {
    const auto size = static_cast<hsize_t>(times);
    test::NcWriter writer((folder_ / "a.nc").string(),
                          {{"time", size}, {"latitude", 2}, {"longitude", 3}});
    std::vector<double> hours;
    for (int64_t t = 0; t < times; ++t) hours.push_back(static_cast<double>(t * step));
    writer.add({.name = "time", .dimensions = {"time"}, .values = hours, .type = H5T_STD_I64LE});
    writer.text("time", "units", "hours since 2019-03-01");
    writer.text("time", "calendar", calendar);
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
  std::shared_ptr<const SampleSet> samples(const at::Tensor& rows = {},
                                           const std::vector<int64_t>& targets = {12}) const {
    const auto dataset = std::make_shared<Dataset>(DatasetOptions{.paths = {folder_ / "a.nc"},
                                                                  .variables = {"t", "u", "v"},
                                                                  .allow_missing = true,
                                                                  .cache_bytes = 0});
    const Normalizer normalizer({"t", "u", "v"}, std::vector<VariableStatistics>(3, {1, 2}));
    const SampleOptions options{
        .input_hours = {0}, .target_hours = targets, .forcing_variables = {"u"}, .rows = rows};
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
                                       EXPECT_EQ(total, 2) << "noons of two days";
                                     }},
                                ProcessGrid(*comm, 1));
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), 2);
  const auto scored = at::tensor({0, 1}).to(at::kBool).view({1, 2});
  const auto fields = climatology.at({hour(150)}, {6, 30}, scored);
  EXPECT_TRUE(fields[0][0].isnan().all().item<bool>()) << "not asked for, and not known";
  EXPECT_FALSE(fields[0][1].isnan().all().item<bool>());
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

/// The groups of all samples of a set, as they were checked: each target of each sample in one of
/// them, none with more slots than its memory holds, or 61, and no field read for three of them.
struct Checked {
  int64_t groups = 0;
  int64_t samples = 0;     ///< in all groups together
  int64_t largest = 0;     ///< slots
  int64_t most_reads = 0;  ///< of a field
  int64_t reads = 0;       ///< of all fields
};

Checked check_groups(const std::shared_ptr<const SampleSet>& set, const Period& period,
                     int64_t fields) {
  const auto& dataset = set->dataset();
  const auto& leads = set->options().target_hours;
  const ClimatologySlots slots(dataset.times(), dataset.calendar(), period);
  Checked found;
  std::set<std::pair<int64_t, int64_t>> scored;
  std::map<int64_t, int64_t> reads;
  for (const auto& group :
       group_by_climatology({{set, leads}}, {period, climatology_bytes(fields, kPoints, 2)})) {
    std::set<ClimatologySlot> own;
    for (const int64_t time : group.times) own.insert(slots.of(time));
    for (const auto& [position, of_leads] : group.samples.at(0)) {
      for (const int64_t lead : of_leads) {
        EXPECT_TRUE(scored.emplace(position, lead).second);
        EXPECT_TRUE(own.contains(slots.of(set->times()[position] + leads[lead] * kHourSeconds)));
      }
    }
    for (const int64_t time : climatology_times(dataset, period, group.times)) {
      found.most_reads = std::max(found.most_reads, ++reads[time]);
      ++found.reads;
    }
    found.largest = std::max(found.largest, std::ssize(own));
    found.samples += std::ssize(group.samples.at(0));
    ++found.groups;
  }
  EXPECT_EQ(std::ssize(scored), set->size() * std::ssize(leads));
  return found;
}

TEST_F(Climatologies, AreDividedByTimeOfDayAndDayWhereMemoryIsShort) {
  write(2 * 900, 12);
  const Period years{parse_time("2019-03-01"), parse_time("2021-03-01")};
  const auto count = [&](const Period& period, int64_t fields) {
    const auto found = check_groups(samples(), period, fields);
    EXPECT_LE(found.largest, std::max<int64_t>(fields, 61));
    return found.groups;
  };
  EXPECT_EQ(count(years, 2 * 366), 1);
  EXPECT_EQ(count(years, 366), 2);
  EXPECT_EQ(count(years, 1), 2 * 6) << "each time of day in six blocks of 61 days";
  const Period season{parse_time("2019-03-01"), parse_time("2019-09-01")};
  EXPECT_EQ(count(season, 1), 1) << "two times of day";
}

TEST_F(Climatologies, ReadAFieldTwiceAtMostWhateverTheLeadTimesAndTheMemory) {
  std::vector<int64_t> leads;  // five days, which touch all times of day and two blocks
  for (int64_t lead = 6; lead <= 120; lead += 6) leads.push_back(lead);
  for (const std::string calendar : {"standard", "noleap", "360_day"}) {
    write(4 * 800, 6, calendar);
    const auto set = samples({}, leads);
    const Period years{hour(0), hour(24 * 740)};
    for (const int64_t fields : {1, 100, 3 * 61, 4 * 61, 5 * 61, 1000, 1463, 1464}) {
      const auto found = check_groups(set, years, fields);
      EXPECT_LE(found.largest, std::max<int64_t>(fields, 61)) << calendar << " " << fields;
      EXPECT_LE(found.most_reads, 2) << calendar << " " << fields;
      EXPECT_LE(found.reads, 2 * 4 * 740);
      if (fields < 4 * 61) continue;
      // All times of day are together, so that few samples are forecast again.
      EXPECT_LT(found.samples, set->size() * 11 / 10) << calendar << " " << fields;
    }
    EXPECT_EQ(check_groups(set, years, 1464).groups, 1) << "of 4 x 366 fields";
  }
}

/// A forecast that differs by lead time; counts what it is asked for.
Task counting_task(std::atomic<int64_t>& forecasts) {
  Task task;
  task.forecast = [&forecasts](const Batch& b) {
    forecasts += b.state.size(0);
    std::vector<at::Tensor> steps;
    for (int64_t s = 1; s <= b.target.size(1); ++s) {
      steps.push_back(b.state.select(1, 0).nan_to_num() / static_cast<double>(s));
    }
    return at::stack(steps, 1);
  };
  return task;
}

/// Everything that is scored, in one row.
std::vector<double> numbers_of(const Evaluation& evaluation) {
  std::vector<double> numbers;
  for (const auto& lead : evaluation.scores) {
    numbers.push_back(static_cast<double>(lead.samples));
    for (const auto& v : lead.variables) {
      numbers.insert(numbers.end(), {v.rmse, v.bias, v.persistence, v.acc});
    }
  }
  for (const auto& lead : evaluation.spectra) {
    for (const auto& v : lead.variables) {
      numbers.push_back(static_cast<double>(v.samples));
      numbers.insert(numbers.end(), v.forecast.begin(), v.forecast.end());
      numbers.insert(numbers.end(), v.truth.begin(), v.truth.end());
    }
  }
  return numbers;
}

TEST_F(Climatologies, GiveTheSameScoresInPartsAsWhole) {
  write(2 * 400, 12);
  const auto one = samples(), all = samples({}, {12, 24, 36, 48});
  struct Found {
    std::vector<double> numbers;
    int64_t forecasts = 0;
    int64_t read = 0;
  };
  const auto evaluate = [&](int ranks, int64_t memory_bytes, bool every_lead) {
    Found found;
    std::atomic<int64_t> forecasts = 0;
    const auto task = counting_task(forecasts);
    run_ranks(ranks, [&](Communicator& world) {
      int64_t last = 0;
      const EvaluationOptions options{
          .area = at::full({kPoints}, 1.0 / kPoints, at::kDouble),
          .batch = 7,
          .climatology = ClimatologySource{.period = {hour(0), hour(24 * 400)},
                                           .memory_bytes = memory_bytes,
                                           .progress =
                                               [&](int64_t done, int64_t total) {
                                                 EXPECT_GE(done, last);
                                                 EXPECT_LE(done, total);
                                                 last = done;
                                               }},
          .power = [](const at::Tensor& fields) { return fields.square(); }};
      const ProcessGrid grid(world, 1);
      const auto scored = every_lead ? evaluate_every_lead(task, all, grid, options)
                                     : evaluate_last_leads(task, {one, all}, grid, options);
      if (world.rank() == 0) found = {numbers_of(scored), 0, last};
    });
    found.forecasts = forecasts;
    return found;
  };
  for (const bool every_lead : {true, false}) {
    const auto whole = evaluate(1, int64_t{1} << 30, every_lead);
    EXPECT_EQ(whole.forecasts, every_lead ? all->size() : one->size() + all->size());
    EXPECT_EQ(whole.read, 2 * 400) << "each field of the period once";
    for (const int ranks : {1, 2}) {
      const auto parts = evaluate(ranks, 1, every_lead);
      EXPECT_GT(parts.read, whole.read);
      EXPECT_LE(parts.read, 2 * whole.read);
      ASSERT_EQ(parts.numbers.size(), whole.numbers.size());
      for (size_t i = 0; i < whole.numbers.size(); ++i) {
        EXPECT_NEAR(parts.numbers[i], whole.numbers[i], 1e-12) << i;
        EXPECT_FALSE(std::isnan(whole.numbers[i])) << i;
      }
    }
  }
}

TEST_F(Climatologies, AreDividedAlikeOnRanksOfAModelThatDifferInTheirPoints) {
  write(2 * 400, 12);
  const std::vector<int64_t> leads{12, 24};
  const auto score = [&](int ranks, int64_t memory_bytes) {
    std::vector<double> numbers;
    std::atomic<int64_t> forecasts = 0;
    const auto task = counting_task(forecasts);
    run_ranks(ranks, [&](Communicator& world) {
      const ProcessGrid grid(world, ranks);
      const auto rows = ranks == 1          ? at::arange(kPoints, at::kLong)
                        : world.rank() == 0 ? at::arange(4, at::kLong)
                                            : at::arange(4, kPoints, at::kLong);
      const EvaluationOptions options{
          .area = at::full({rows.size(0)}, 1.0 / kPoints, at::kDouble),
          .batch = 7,
          .climatology =
              ClimatologySource{.period = {hour(0), hour(24 * 400)}, .memory_bytes = memory_bytes}};
      const auto found = evaluate_every_lead(task, samples(rows, leads), grid, options);
      if (world.rank() == 0) numbers = numbers_of(found);
    });
    return numbers;
  };
  // Blocks of 75 days of four points, of 150 days of two.
  const auto whole = score(1, int64_t{1} << 30), parts = score(2, climatology_bytes(150, 4, 2));
  ASSERT_EQ(parts.size(), whole.size());
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(parts[i], whole[i], 1e-12) << i;
}

}  // namespace
}  // namespace isobar::climatology_test
