// SPDX-License-Identifier: Apache-2.0
// What isobar asks of every machine, for people to read: golden/MACHINE.txt holds the first script
// that the machine takes, and for every other number of nodes how its script differs, or why there
// is none. ISOBAR_UPDATE_GOLDEN=1 writes the files anew. ISOBAR_SCRIPTS=FOLDER also writes the
// scripts there, with what sbatch_test.py has to know of each machine.
#include <isobar/cluster/job.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "cluster/example_cluster.hpp"
#include "core/temporary_folder.hpp"

namespace isobar::test::golden_test {
namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

struct Case {
  int nodes;
  bool reserved;

  std::string title() const {
    return fmt::format("{} node{}{}", nodes, nodes == 1 ? "" : "s",
                       reserved ? ", reservation 'hero'" : "");
  }
  std::string file() const { return fmt::format("{}{}", nodes, reserved ? "-reservation" : ""); }
};

Lines lines_of(const std::string& text) {
  Lines lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// The script, or one line that says why there is none.
std::string answer(const ClusterProfile& profile, const Case& of) {
  auto request = example_request(of.nodes);
  request.account =
      profile.slurm.account_example.empty() ? "account" : profile.slurm.account_example;
  request.reservation = of.reserved ? "hero" : "";
  try {
    return batch_script(profile, request, plan_job(profile, request));
  } catch (const UsageError& error) {
    return fmt::format("refused: {}\n", error.what());
  }
}

bool is_refused(const std::string& answer) { return answer.rfind("refused: ", 0) == 0; }

/// Lines that go ("-") and come ("+") from `from` to `to`, by their longest common subsequence.
Lines changes(const Lines& from, const Lines& to) {
  const auto rows = from.size(), columns = to.size();
  std::vector<std::vector<int>> kept(rows + 1, std::vector<int>(columns + 1));
  for (auto i = rows; i-- > 0;) {
    for (auto j = columns; j-- > 0;) {
      kept[i][j] =
          from[i] == to[j] ? kept[i + 1][j + 1] + 1 : std::max(kept[i + 1][j], kept[i][j + 1]);
    }
  }
  Lines lines;
  for (std::size_t i = 0, j = 0; i < rows || j < columns;) {
    if (i < rows && j < columns && from[i] == to[j]) {
      ++i, ++j;
    } else if (j == columns || (i < rows && kept[i + 1][j] >= kept[i][j + 1])) {
      lines.push_back("-" + from[i++]);
    } else {
      lines.push_back("+" + to[j++]);
    }
  }
  return lines;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool reserved : {false, true}) {
    for (const int nodes : {1, 4, 64, 128, 512}) all.push_back({nodes, reserved});
  }
  return all;
}

std::string golden_text(const ClusterProfile& profile) {
  std::string text, first_title;
  Lines first;
  for (const auto& each : cases()) {
    const auto said = answer(profile, each);
    text += fmt::format("{}== {}", text.empty() ? "" : "\n", each.title());
    if (is_refused(said)) {
      text += "\n" + said;
    } else if (first.empty()) {
      first = lines_of(said);
      first_title = each.title();
      text += "\n" + said;
    } else {
      text += fmt::format(": as {}, but\n", first_title);
      for (const auto& line : changes(first, lines_of(said))) text += line + "\n";
    }
  }
  return text;
}

/// What a Slurm has to have to take the machine's scripts.
nlohmann::json shape_of(const ClusterProfile& profile) {
  auto queues = nlohmann::json::array();
  for (const auto& queue : profile.slurm.queues) {
    queues.push_back({{"partition", queue.partition},
                      {"qos", queue.qos},
                      {"most_nodes", queue.most_nodes},
                      {"most_minutes", queue.most_minutes}});
  }
  const auto& node = profile.node;
  return {{"nodes", node.count},
          {"gpus", node.gpus},
          {"cores", node.cores},
          {"threads_per_core", node.threads_per_core},
          {"queues", queues}};
}

void write_scripts(const ClusterProfile& profile, const fs::path& folder) {
  fs::remove_all(folder);
  fs::create_directories(folder);
  write_file(folder / "machine.json", shape_of(profile).dump(2) + "\n");
  for (const auto& each : cases()) {
    const auto said = answer(profile, each);
    if (!is_refused(said)) write_file(folder / (each.file() + ".sh"), said);
  }
}

TEST(Golden, AsksOfEachMachineWhatItTakes) {
  const fs::path folder = ISOBAR_GOLDEN_FOLDER;
  const char* scripts = std::getenv("ISOBAR_SCRIPTS");
  for (const auto& name : profile_names()) {
    const auto profile = parse_profile(profile_text(name), name, name + ".yaml");
    const auto file = folder / (name + ".txt");
    const auto text = golden_text(profile);
    if (std::getenv("ISOBAR_UPDATE_GOLDEN")) write_file(file, text);
    EXPECT_EQ(text, read_file(file)) << file << "; ISOBAR_UPDATE_GOLDEN=1 writes it anew";
    if (scripts && profile.slurm.launcher == "srun") {
      write_scripts(profile, fs::path(scripts) / name);
    }
  }
}

TEST(Golden, ShowsWhichLinesDiffer) {
  EXPECT_EQ(changes({"a", "b", "c"}, {"a", "c", "d"}), (Lines{"-b", "+d"}));
  EXPECT_EQ(changes({"a"}, {"a"}), Lines{});
  EXPECT_EQ(changes({"a", "b"}, {"b", "a"}).size(), 2U);
}

}  // namespace
}  // namespace isobar::test::golden_test
