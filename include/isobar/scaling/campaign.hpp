// SPDX-License-Identifier: Apache-2.0
// A campaign: one program, measured over the values of a few settings. docs/campaigns.md describes
// the file. Functions of their arguments; nothing is run.
#pragma once

#include <isobar/core/config.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

enum class CampaignKind { step, collective, train };
enum class CampaignLaunch { local, slurm };
enum class Efficiency { none, weak, strong };

/// A setting, and its values in the order of the file. "nodes" and "cluster" say where a run is;
/// others are options of the program, or keys of the experiment.
struct CampaignAxis {
  std::string name;
  std::vector<std::string> values;
};

/// Names with values, in order.
using CampaignValues = std::vector<std::pair<std::string, std::string>>;

struct Campaign {
  std::string name;
  std::filesystem::path folder;  ///< of its runs and of what is known of them: <folder>/<name>
  CampaignKind kind = CampaignKind::step;
  std::string experiment;  ///< of train
  int ranks_per_node = 1;
  std::map<std::string, std::string> options;  ///< that all runs have
  /// Whole numbers that the ranks share, such as the samples of a step: each gets its part.
  std::map<std::string, std::int64_t> shared;
  std::vector<CampaignAxis> axes;
  std::vector<std::map<std::string, std::string>> skip;  ///< points that have all of one's values
  int repeats = 3;
  double time_limit_s = 0;  ///< of a run
  CampaignLaunch launch = CampaignLaunch::local;
  std::string command;  ///< of local runs, before the program; may hold {nodes} and its like
  std::string cluster;  ///< a profile's name; empty: this machine
  std::string account;  ///< of Slurm
  std::string time;     ///< of Slurm; empty: the time limit
  std::string value;    ///< what is measured: a field of the program's rows
  Efficiency efficiency = Efficiency::none;
  std::string yaml;  ///< the file as it was read, with overrides and defaults
};

/// Reads a campaign whole. Throws UsageError of one line.
Campaign read_campaign(const Config& config);

/// What all repeats of a measurement have in common.
struct CampaignPoint {
  std::string slug;       ///< a name for folders: its values, such as "nodes=2,bucket-cap=1MiB"
  CampaignValues values;  ///< one of each axis
  int nodes = 1;
  std::string cluster = {};  ///< empty where there is no such axis
};

/// Every combination of values but for those to skip, the last axis fastest. A point's slug is
/// its own: it stays when other points come or go. Throws UsageError where none is left.
std::vector<CampaignPoint> campaign_points(const Campaign& campaign);

/// The axes' names, in order, and a point's value of each.
std::vector<std::string> axis_names(const Campaign& campaign);
std::vector<std::string> axis_values(const CampaignPoint& point);

/// The value of an axis at a point; empty where there is no such axis.
std::string axis_value(const CampaignPoint& point, const std::string& axis);

/// The program's arguments at a point, such as {"bench", "step", "--width=512"}.
std::vector<std::string> program_arguments(const Campaign& campaign, const CampaignPoint& point);

/// The words before the program that start its ranks on this machine; none for one rank.
std::vector<std::string> launch_words(const Campaign& campaign, const CampaignPoint& point);

/// Whether a field of a row is a time, of which less is better; of a rate more is.
bool is_time(const std::string& field);

}  // namespace isobar
