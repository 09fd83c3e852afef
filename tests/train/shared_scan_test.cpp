// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/shared_scan.hpp>

#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

#include <isobar/comm/thread_world.hpp>
#include <gtest/gtest.h>

#include <numeric>

namespace isobar::shared_scan_test {
namespace {

class SharedScan : public testing::Test {
 protected:
  SharedScan() {
    test::WeatherFile weather{.variables = {"t", "u"}, .hours = std::vector<double>(100)};
    std::iota(weather.hours.begin(), weather.hours.end(), 0);
    test::write_weather(folder_ / "a.nc", weather);
  }

  FieldScan scan() const {
    return {std::make_shared<const Dataset>(
                DatasetOptions{.paths = {(folder_ / "a.nc").string()}, .variables = {"t", "u"}}),
            {.periods = {period_}, .times = {}, .step_hours = 6}};
  }

  test::TemporaryFolder folder_;
  Period period_ = parse_period("2019-03-01T10:00", "2019-03-05");
};

TEST_F(SharedScan, TellsEveryRankTheSameAsOneAlone) {
  auto alone = scan();
  alone.look_through(0, 1);
  const auto wanted = alone.statistics(period_);
  for (const int ranks : {1, 2, 3}) {
    run_ranks(ranks, [&](Communicator& comm) {
      auto shared = scan();
      int64_t last = 0;
      share_scan(shared, comm, [&](int64_t done, int64_t total) {
        last = done;
        EXPECT_EQ(total, 86);
      });
      EXPECT_EQ(last, 86);
      for (size_t v = 0; v < wanted.size(); ++v) {
        const auto found = shared.statistics(period_)[v];
        EXPECT_EQ(found.values.mean, wanted[v].values.mean);
        EXPECT_EQ(found.values.stdev, wanted[v].values.stdev);
        EXPECT_EQ(found.values.minimum, wanted[v].values.minimum);
        EXPECT_EQ(found.values.maximum, wanted[v].values.maximum);
        EXPECT_EQ(found.change_stdev, wanted[v].change_stdev);
      }
    });
  }
}

}  // namespace
}  // namespace isobar::shared_scan_test
