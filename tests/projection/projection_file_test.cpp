// SPDX-License-Identifier: Apache-2.0
#include <isobar/projection/projection_file.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "projection/expect_refusal.hpp"

namespace isobar::test::projection_file_test {
namespace {

constexpr const char* kPlain = R"(
projection: {name: here, nodes: [4, 1, 2]}
step: {forward_s: 0.1, backward_s: 0.2, gradient_bytes: 100MiB, bucket_cap: 25MiB}
network: {node_gbit_s: 8, hop_us: 10}
)";

Projection read(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const auto config = Config::parse(text, "here.yaml", overrides);
  auto projection = read_projection(config);
  config.finish();
  return projection;
}

ProjectedCurve curve(const std::string& name, const std::vector<double>& efficiencies) {
  ProjectedCurve made{.projection = {.name = name}};
  int nodes = 1;
  for (const double e : efficiencies) {
    made.steps.push_back({.nodes = nodes,
                          .step_s = {.value = 0.3 / e, .low = 0.3 / e, .high = 0.3 / e},
                          .efficiency = {.value = e, .low = e - 0.01, .high = e + 0.01}});
    nodes *= 2;
  }
  return made;
}

TEST(ProjectionFile, ReadsNumbersNetworkAndNodesInOrder) {
  const auto projection = read(kPlain);
  EXPECT_EQ(projection.nodes, (std::vector<int>{1, 2, 4}));
  const auto& input = projection.input;
  ASSERT_EQ(input.buckets.size(), 4U);
  EXPECT_DOUBLE_EQ(input.buckets[1].ready_s, 0.1);
  EXPECT_EQ(input.buckets[3].stages[0].bytes, 25 << 20);
  EXPECT_DOUBLE_EQ(input.network.model.byte_s, 1e-9);
  EXPECT_DOUBLE_EQ(input.network.model.hop_s, 1e-5);
  EXPECT_EQ(input.compute_ranks, 1);
}

TEST(ProjectionFile, ALinkOfAnotherRateHasItsLatencyStill) {
  const auto input = read(kPlain, {"network.rate_factor=0.1"}).input;
  EXPECT_DOUBLE_EQ(input.network.model.byte_s, 1e-8);
  EXPECT_DOUBLE_EQ(input.network.model.hop_s, 1e-5);
}

TEST(ProjectionFile, TakesNoRanksOfOneNodeForNodes) {
  const auto path = std::filesystem::temp_directory_path() / "isobar-projection-shm.json";
  nlohmann::json rows;
  for (const int bytes : {1 << 16, 1 << 20}) {
    rows.push_back({{"op", "allreduce"},
                    {"ranks", 4},
                    {"nodes", 1},
                    {"bytes", bytes},
                    {"median_s", 1e-9 * bytes}});
  }
  std::ofstream(path) << nlohmann::json{{"schema", "isobar.bench.collective.1"}, {"rows", rows}};
  const std::string text = R"(
projection: {name: here, nodes: [4]}
step: {forward_s: 0.1, backward_s: 0.2, gradient_bytes: 100MiB, bucket_cap: 25MiB}
network: {report: )" + path.string() +
                           "}\n";
  expect_refusal([&] { read(text); }, {"its 4 ranks were on 1 node", "ranks.per_node is 1"});
  expect_refusal([&] { read(text + "ranks: {per_node: 64}\n"); }, {"on 1 node", "is 64"});
  std::filesystem::remove(path);
}

TEST(ProjectionFile, RefusesTimesInOtherUnits) {
  const std::string text = R"(
projection: {name: here, nodes: [4]}
step: {forward_s: 0.1, backward_s: 0.2, gradient_bytes: 100MiB, bucket_cap: 25MiB}
network: {allreduce: ["4 4 512MiB 0.0113", "4 4 64MiB 1500", "8 4 512MiB 11400", "8 4 64MiB 1600"]}
)";
  expect_refusal([&] { read(text); }, {"no network takes such times", "536870912 bytes over"});
}

TEST(ProjectionFile, OfAByteOnlyTheLinksOwnTimeFollowsTheLink) {
  // 1 ns a byte, of which a link of 16 Gbit/s takes half.
  const auto input = read(kPlain, {"network.rate_factor=0.1", "network.link_gbit_s=16"}).input;
  EXPECT_DOUBLE_EQ(input.network.model.byte_s, 0.5e-9 + 0.5e-8);
}

TEST(ProjectionFile, NamesWhatItCannotUse) {
  expect_refusal([] { read(kPlain, {"network.node_gbit_s=0"}); }, {"node_gbit_s"});
  expect_refusal([] { read(kPlain, {"step.bucket_cap=0"}); }, {"bucket_cap", "positive"});
  expect_refusal([] { read(kPlain, {"jitter.between_rank=0.1"}); }, {"between_ranks"});
  expect_refusal([] { read(kPlain, {"network.allreduce=[\"4 4 64MiB\"]"}); },
                 {"'4 4 64MiB'", "NODES RANKS_PER_NODE SIZE MICROSECONDS"});
  expect_refusal([] { read(kPlain, {"step.report=missing.json"}); },
                 {"cannot read 'missing.json'"});
}

/// A report of a step on two ranks whose passes are a tenth longer beside the wire.
std::filesystem::path write_step_report(double backward_s) {
  const auto path = std::filesystem::path(testing::TempDir()) / "projection_step.json";
  const nlohmann::json row = {
      {"ranks", 2},
      {"compute_forward_s", 0.1},
      {"compute_backward_s", 0.2},
      {"backward_s", backward_s},
      {"optimizer_s", 0.01},
      {"payload_bytes", 50'000'000},
      {"buckets",
       {{{"bytes", 50'000'000}, {"ready_s", 0.1}}, {{"bytes", 50'000'000}, {"ready_s", 0.2}}}}};
  std::ofstream(path) << nlohmann::json{{"schema", "isobar.bench.step.1"}, {"rows", {row}}};
  return path;
}

TEST(ProjectionFile, AMeasuredStepIsReplayedWithWhatTheWireTookFromTheProcessor) {
  // Two buckets of 25 MB on the wire, 25 ms each; the first lies beside the backward pass, which
  // took 5 ms longer for it.
  const auto path = write_step_report(0.205);
  const auto projection =
      read(kPlain, {"step={report: " + path.string() + "}", "projection.nodes=[1, 2]"});
  EXPECT_NEAR(projection.input.compute_rate, 0.8, 0.01);
  const auto steps = project_steps(projection.input, projection.nodes);
  EXPECT_NEAR(steps[0].step_s.value, 0.31, 1e-9);
  EXPECT_NEAR(steps[1].step_s.value, 0.1 + 0.205 + 0.025 + 0.01, 1e-3);
}

/// The report of write_step_report(0.2), with a forward pass of its own.
std::string write_repeat(const std::string& name, double forward_s) {
  auto report = nlohmann::json::parse(std::ifstream(write_step_report(0.2)));
  report["rows"][0]["compute_forward_s"] = forward_s;
  const auto path = std::filesystem::path(testing::TempDir()) / name;
  std::ofstream(path) << report;
  return path.string();
}

TEST(ProjectionFile, RepeatedReportsGiveTheirMedianAndWidenTheInterval) {
  const auto first = write_repeat("projection_first.json", 0.1);
  const auto more = write_repeat("projection_second.json", 0.104) + ", " +
                    write_repeat("projection_third.json", 0.5);
  const auto once = read(kPlain, {"step={report: " + first + "}"}).input;
  const auto thrice = read(kPlain, {"step={report: " + first + ", repeats: [" + more + "]}"}).input;
  EXPECT_DOUBLE_EQ(once.compute.forward_s, 0.1);
  EXPECT_DOUBLE_EQ(thrice.compute.forward_s, 0.104);
  EXPECT_EQ(once.repeatability.reports, 1);
  EXPECT_EQ(thrice.repeatability.reports, 3);
  EXPECT_NEAR(thrice.repeatability.compute, 0.4748, 0.0001);  // of log 0.31, 0.314 and 0.71
  const auto narrow = project_steps(once, {1}).front().step_s;
  const auto wide = project_steps(thrice, {1}).front().step_s;
  EXPECT_DOUBLE_EQ(narrow.low, narrow.high);
  EXPECT_LT(wide.low, 0.314);
  EXPECT_GT(wide.high, 0.71);  // the next call may come out as one of these did
}

TEST(ProjectionFile, RefusesRepeatsThatAreNotOfOneCommand) {
  const auto first = write_repeat("projection_first.json", 0.1);
  auto report = nlohmann::json::parse(std::ifstream(first));
  report["rows"][0]["buckets"].erase(0);
  const auto path = std::filesystem::path(testing::TempDir()) / "projection_other.json";
  std::ofstream(path) << report;
  expect_refusal(
      [&] { read(kPlain, {"step={report: " + first + ", repeats: [" + path.string() + "]}"}); },
      {"not alike"});
}

TEST(ProjectionFile, TheSlowestOfTheMeasuredRanksIsNotCountedTwice) {
  const auto path = write_step_report(0.2);
  const auto projection =
      read(kPlain, {"step={report: " + path.string() + "}", "projection.nodes=[2]",
                    "jitter={between_steps: 0.05}", "network={node_gbit_s: 1e9, hop_us: 0}"});
  EXPECT_LT(projection.input.compute.backward_s, 0.199);
  EXPECT_NEAR(project_steps(projection.input, {2}).front().step_s.value, 0.31, 0.003);
}

/// Two ranks, four buckets of 25 MB ready evenly; the compressor sends an eighth.
std::filesystem::path write_compression_report() {
  const auto path = std::filesystem::path(testing::TempDir()) / "projection_compression.json";
  const auto row = [](const std::string& method, double compute_s, std::int64_t bytes) {
    auto buckets = nlohmann::json::array();
    for (int b = 1; b <= 4; ++b) {
      buckets.push_back({{"ready_s", 0.05 * b},
                         {"complete_s", compute_s},
                         {"stages", {{{"compute_s", compute_s}, {"bytes", bytes}}}}});
    }
    return nlohmann::json{{"method", method},
                          {"name", method + " rank 4"},
                          {"ranks", 2},
                          {"parts",
                           {{"forward_s", 0.1},
                            {"backward_s", 0.2},
                            {"optimizer_s", 0.01},
                            {"latency_s", 1e-3},
                            {"bytes_per_s", 1e9},
                            {"buckets", buckets}}}};
  };
  auto none = row("none", 0, 25'000'000);
  // Three buckets lie beside the backward pass, 26 ms each, and take a tenth of its time.
  none["measured_step_s"] = 0.1 + 0.2 + 3 * 0.026 * 0.1 + 0.026 + 0.01;
  std::ofstream(path) << nlohmann::json{{"schema", "isobar.bench.compression.1"},
                                        {"rows", {none, row("acp_sgd", 0.002, 3'000'000)}}};
  return path;
}

Projection read_compression(const std::vector<std::string>& more) {
  std::vector<std::string> overrides{
      "step={compression: " + write_compression_report().string() + "}", "network={}",
      "projection.nodes=[1, 2]"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return read(kPlain, overrides);
}

TEST(ProjectionFile, AMeasuredCompressionHasWireAndRateOfItsReport) {
  const auto input = read_compression({"step.method=acp_sgd"}).input;
  EXPECT_NEAR(input.compute_rate, 0.9, 0.01);
  EXPECT_DOUBLE_EQ(input.network.model.seconds(25'000'000, 2, 1), 0.026);
  ASSERT_EQ(input.buckets.size(), 4U);
  EXPECT_EQ(input.buckets[0].stages[0].bytes, 3'000'000);
  EXPECT_DOUBLE_EQ(input.buckets[0].complete_s, 0.002);
  expect_refusal([] { read_compression({"step.method=gzip"}); },
                 {"'gzip' is not in the report", "none rank 4, acp_sgd rank 4"});
}

TEST(ProjectionFile, AMeasuredStepOfAMethodIsReplayedWhateverItsPartsSay) {
  const auto path = write_compression_report();
  auto report = nlohmann::json::parse(std::ifstream(path));
  report["rows"][1]["measured_step_s"] = 0.4;
  std::ofstream(path) << report;
  const auto input =
      read(kPlain, {"step={compression: " + path.string() + ", method: acp_sgd}", "network={}"})
          .input;
  const auto steps = project_steps(input, {1, 2});
  EXPECT_NEAR(steps[1].step_s.value, 0.4, 1e-9);
  EXPECT_LT(steps[0].step_s.value, 0.33);  // one rank meets nobody
}

TEST(ProjectionFile, TheWireOfAMethodIsItsOwnAndTheRatesThatOfPlainSteps) {
  const auto path = write_compression_report();
  auto report = nlohmann::json::parse(std::ifstream(path));
  report["rows"][1]["parts"]["bytes_per_s"] = 5e8;
  std::ofstream(path) << report;
  const auto input =
      read(kPlain, {"step={compression: " + path.string() + ", method: acp_sgd}", "network={}"})
          .input;
  EXPECT_DOUBLE_EQ(input.network.model.byte_s, 2e-9);
  EXPECT_NEAR(input.compute_rate, 0.9, 0.01);
}

TEST(ProjectionFile, SumsAreNoFasterThanTheirLink) {
  const auto path = write_compression_report();
  auto report = nlohmann::json::parse(std::ifstream(path));
  for (auto& row : report["rows"])
    row["goodput_gbit_s"] = 4;  // 0.5 GB/s; the wire seemed to have 1
  std::ofstream(path) << report;
  const auto input =
      read(kPlain, {"step={compression: " + path.string() + "}", "network={rate_factor: 0.5}"})
          .input;
  EXPECT_DOUBLE_EQ(input.network.model.byte_s, 4e-9);
}

TEST(ProjectionFile, BucketsArePutTogetherByTheirGradientsWhateverIsSent) {
  const auto input = read_compression({"step.method=acp_sgd", "step.bucket_cap=50MB"}).input;
  ASSERT_EQ(input.buckets.size(), 2U);
  EXPECT_DOUBLE_EQ(input.buckets[1].ready_s, 0.2);
  EXPECT_EQ(input.buckets[1].stages[0].bytes, 6'000'000);
  EXPECT_DOUBLE_EQ(input.buckets[1].stages[0].compute_s, 0.004);
  EXPECT_EQ(read_compression({"step.bucket_cap=1GB"}).input.buckets.size(), 1U);
  // A reducer's bucket is full when it has reached the cap, not before.
  const auto beyond = read_compression({"step.bucket_cap=60MB"}).input.buckets;
  ASSERT_EQ(beyond.size(), 2U);
  EXPECT_EQ(beyond[0].stages[0].bytes, 75'000'000);
}

TEST(ProjectionFile, ASlowerLinkTakesLessFromTheCoresThatCompute) {
  const auto input = read_compression({"network.rate_factor=0.1"}).input;
  EXPECT_NEAR(input.compute_rate, 0.99, 0.001);
  EXPECT_NEAR(input.network.model.seconds(25'000'000, 2, 1), 0.251, 1e-9);
}

TEST(ProjectionFile, CurvesPartWhereTheyStayApart) {
  const auto a = curve("a", {1, 0.99, 0.95, 0.96, 0.94});
  const auto b = curve("b", {1, 0.98, 0.99, 0.95, 0.90});
  EXPECT_EQ(curves_part(a, b), 16);
  EXPECT_EQ(curves_part(a, a), 0);
  const auto table = projection_table({a, b});
  EXPECT_NE(table.find("a and b part at 16 nodes, 0.940 and 0.900; intervals do not overlap"),
            std::string::npos)
      << table;
}

TEST(ProjectionFile, EveryRowSaysThatItIsProjected) {
  const auto rows = projection_rows({curve("a", {1, 0.9})});
  ASSERT_EQ(rows.size(), 2U);
  for (const auto& row : rows) EXPECT_EQ(row.at("projected"), true);
  const auto csv = projection_csv({curve("a", {1, 0.9})});
  EXPECT_EQ(csv.find("name,projected,nodes"), 0U);
  EXPECT_NE(csv.find("\na,true,2,0.333333"), std::string::npos) << csv;
}

}  // namespace
}  // namespace isobar::test::projection_file_test
