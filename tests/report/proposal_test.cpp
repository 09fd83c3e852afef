// SPDX-License-Identifier: Apache-2.0
#include <isobar/report/proposal.hpp>

#include <isobar/core/error.hpp>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>

#include "comm/expect_error.hpp"
#include "core/temporary_folder.hpp"
#include "report/made_campaign.hpp"

namespace isobar::test::proposal_test {
namespace {

/// Steps of 0.1 s on one node, and a tenth more with each doubling.
std::filesystem::path make_weak(const TemporaryFolder& folder) {
  return make_campaign_folder(
      folder / "campaigns", "weak", "{nodes: [1, 2, 4]}", [](const CampaignPoint& point, int) {
        return 0.1 * (point.nodes == 1 ? 1.0 : point.nodes == 2 ? 1.1 : 1.2);
      });
}

std::filesystem::path write_projection(const TemporaryFolder& folder) {
  const nlohmann::json row = {{"point", {{"cluster", "there"}, {"nodes", "512"}}},
                              {"nodes", 512},
                              {"projected", true},
                              {"value", "step_s"},
                              {"median", 0.125},
                              {"low", 0.12},
                              {"high", 0.13},
                              {"efficiency", 0.8},
                              {"efficiency_low", 0.77},
                              {"efficiency_high", 0.83},
                              {"basis", {{"jitter", "assumed | here"}}}};
  const auto path = folder / "there.json";
  write_file(
      path,
      nlohmann::json{
          {"schema", "isobar.projection.1"}, {"campaign", "weak"}, {"commit", "c"}, {"rows", {row}}}
          .dump());
  return path;
}

TEST(Proposal, HasRatesEfficienciesAndNodeHoursOfWhatWasMeasured) {
  const TemporaryFolder folder;
  const auto text = report_as_markdown(
      make_proposal(make_weak(folder), {}, {.samples_per_step = 8, .samples = 288'000}));
  // 8 samples in 0.1 s: an hour. On four nodes 4 * 8 in 0.12 s, so that they take 0.3 h each.
  expect_contains(text, "| 1 | all | 100.0 [100.0, 100.0] | 80 | 1.000 [1.000, 1.000] | 1 | n/a |");
  expect_contains(text, "| 4 | all | 120.0 [120.0, 120.0] | 266.67 | 0.833 [0.833, 0.833] | 1.2 |");
  expect_contains(text, "| commit | a1b2c3 |");
  EXPECT_EQ(text.find("Projected"), std::string::npos);
}

TEST(Proposal, KeepsWhatIsProjectedInATableOfItsOwn) {
  const TemporaryFolder folder;
  const auto text = report_as_markdown(
      make_proposal(make_weak(folder), {write_projection(folder)}, {.samples_per_step = 8}));
  const auto projected = text.find("## Projected");
  ASSERT_NE(projected, std::string::npos);
  EXPECT_EQ(text.find("| 512 |"), text.find("| 512 |", projected)) << "not among the measured";
  expect_contains(text, "| 512 | all | 125.0 [120.0, 130.0] | 32768 | 0.800 [0.770, 0.830] |");
  expect_contains(text, "jitter: assumed | here");
  expect_contains(text, "node hours of a million samples");
}

TEST(Proposal, RefusesWhatItCannotCount) {
  const TemporaryFolder folder;
  const auto weak = make_weak(folder);
  expect_contains(error_of<UsageError>([&] { make_proposal(weak, {}); }),
                  "does not say how many samples a rank takes in a step");
  write_file(folder / "other.json", R"({"schema": "x", "rows": []})");
  expect_contains(error_of<UsageError>([&] {
                    make_proposal(weak, {folder / "other.json"}, {.samples_per_step = 1});
                  }),
                  "is no report of isobar project --json");
}

}  // namespace
}  // namespace isobar::test::proposal_test
