// SPDX-License-Identifier: Apache-2.0
// From a campaign's file to its points and the words of each run. Called on one thread, before
// anything is run, so that a mistake in the file costs no computing time: whatever can be said of a
// value without starting the program is said here. What the program itself takes, the command line
// checks with its own options.
#include <isobar/scaling/campaign.hpp>

#include <isobar/cluster/job.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <set>
#include <sstream>
#include <string_view>

namespace isobar {
namespace {

constexpr std::int64_t kMostPoints = 10'000;
constexpr std::size_t kLongestSlug = 150;  // file systems take 255, and repeats come beside it
constexpr const char* kNodes = "nodes";
constexpr const char* kCluster = "cluster";

/// No separator of paths and nothing that a shell reads.
bool is_plain(const std::string& name) {
  static constexpr std::string_view kPlain = "_-.+";
  return !name.empty() && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || kPlain.find(static_cast<char>(c)) != kPlain.npos;
         });
}

/// The place of a word in a list; UsageError with the nearest for others.
template <typename Enum>
Enum choice(const Config& section, const std::string& key, const std::vector<std::string>& words,
            const std::string& fallback) {
  const auto word =
      fallback.empty() ? section.one_of(key, words) : section.one_of(key, words, fallback);
  return static_cast<Enum>(std::find(words.begin(), words.end(), word) - words.begin());
}

int read_nodes(const std::string& text) {
  int nodes = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), nodes);
  const bool whole = error == std::errc() && rest == text.data() + text.size();
  ISOBAR_CHECK(whole && nodes > 0, "axes.nodes: '", text, "' is no number of nodes, 1 or more");
  return nodes;
}

CampaignAxis read_axis(const Config& axes, const std::string& name) {
  ISOBAR_CHECK(is_plain(name), "axes: '", name, "' is no name of an option or a key");
  CampaignAxis axis{name, axes.get<std::vector<std::string>>(name)};
  ISOBAR_CHECK(!axis.values.empty(), "axes.", name, ": has no values; name one at least");
  if (name == kNodes) {
    for (auto& value : axis.values) value = std::to_string(read_nodes(value));
  }
  std::set<std::string> seen;
  for (const auto& value : axis.values) {
    ISOBAR_CHECK(seen.insert(value).second, "axes.", name, ": '", value, "' is given twice");
  }
  return axis;
}

const CampaignAxis* find_axis(const Campaign& campaign, const std::string& name) {
  for (const auto& axis : campaign.axes) {
    if (axis.name == name) return &axis;
  }
  return nullptr;
}

void read_axes(const Config& section, Campaign& campaign) {
  std::int64_t points = 1;
  for (const auto& name : section.keys()) {
    campaign.axes.push_back(read_axis(section, name));
    ISOBAR_CHECK(campaign.options.count(name) + campaign.shared.count(name) == 0, "axes.", name,
                 ": is in run.options or run.shared too; a setting is one of the three");
    points *= static_cast<std::int64_t>(campaign.axes.back().values.size());
    ISOBAR_CHECK(points <= kMostPoints, "axes: more than ", kMostPoints,
                 " points; take fewer values, or several campaigns");
  }
}

/// One axis=value of a rule.
void add_condition(const Campaign& campaign, const std::string& rule, const std::string& word,
                   std::map<std::string, std::string>& conditions) {
  const auto equals = word.find('=');
  ISOBAR_CHECK(equals != std::string::npos, "skip: '", rule,
               "' is no rule; write \"nodes=1 compress=bf16\"");
  const auto name = word.substr(0, equals), value = word.substr(equals + 1);
  const auto names = axis_names(campaign);
  const auto* axis = find_axis(campaign, name);
  ISOBAR_CHECK(axis != nullptr, "skip: '", rule, "': there is no axis '", name, "'; ",
               did_you_mean(name, names));
  const auto& values = axis->values;
  ISOBAR_CHECK(std::find(values.begin(), values.end(), value) != values.end(), "skip: '", rule,
               "': '", value, "' is no value of axes.", name, "; ", did_you_mean(value, values));
  conditions[name] = value;
}

void read_skip(const Config& config, Campaign& campaign) {
  for (const auto& rule : config.get<std::vector<std::string>>("skip", {})) {
    std::istringstream words(rule);
    auto& conditions = campaign.skip.emplace_back();
    for (std::string word; words >> word;) add_condition(campaign, rule, word, conditions);
    ISOBAR_CHECK(!conditions.empty(), "skip: an empty rule would leave out every point");
  }
}

void read_run(const Config& run, Campaign& campaign) {
  campaign.kind = choice<CampaignKind>(run, "kind", {"step", "collective", "train"}, "");
  const bool trains = campaign.kind == CampaignKind::train;
  campaign.experiment = run.get<std::string>("experiment", "");
  ISOBAR_CHECK(trains != campaign.experiment.empty(), "run.experiment: ",
               trains ? "kind train wants an experiment file" : "is of kind train");
  campaign.ranks_per_node = run.get<int>("ranks_per_node", 1, at_least(1));
  campaign.options = run.get<std::map<std::string, std::string>>("options", {});
}

/// Shared work has to go into every number of ranks.
void read_shared(const Config& run, Campaign& campaign) {
  const auto section = run.child("shared");
  for (const auto& name : section.keys()) {
    campaign.shared[name] = section.get<std::int64_t>(name, at_least(1));
    ISOBAR_CHECK(campaign.options.count(name) == 0, "run.shared: ", name,
                 " is in run.options too; leave one of them out");
  }
}

void check_shares(const Campaign& campaign) {
  for (const auto& point : campaign_points(campaign)) {
    const int ranks = point.nodes * campaign.ranks_per_node;
    for (const auto& [name, value] : campaign.shared) {
      ISOBAR_CHECK(value % ranks == 0, "run.shared: ", name, " ", value,
                   " cannot be shared by the ", ranks, " ranks of ", point.slug);
    }
  }
}

/// What the campaign itself says to the program.
void check_own_settings(const Campaign& campaign) {
  auto names = campaign.axes;
  for (const auto& [name, value] : campaign.options) names.push_back({name, {value}});
  for (const auto& [name, value] : campaign.shared) names.push_back({name, {}});
  for (const auto& [name, values] : names) {
    const bool is_own = name == "json" || name == "run.folder" || name == "run.name";
    ISOBAR_CHECK(!is_own, "'", name, "' is set by the campaign, for each run");
    if (name != "bytes" || campaign.kind != CampaignKind::collective) continue;
    for (const auto& value : values) {
      ISOBAR_CHECK(value.find_first_of(",.") == std::string::npos || parse_bytes(value), "bytes: '",
                   value,
                   "' is several sizes, and a run measures one; make it an "
                   "axis, as in bytes: [64KiB, 1MiB]");
    }
  }
}

void check_placeholders(const std::string& command) {
  static const std::vector<std::string> kKnown{"nodes", "ranks", "ranks_per_node"};
  for (auto at = command.find('{'); at != std::string::npos; at = command.find('{', at + 1)) {
    const auto end = command.find('}', at);
    const auto name = command.substr(at + 1, end == std::string::npos ? end : end - at - 1);
    ISOBAR_CHECK(
        end != std::string::npos && std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end(),
        "launch.command: there is no '{", name, "}'; ", did_you_mean(name, kKnown));
  }
  ISOBAR_CHECK(command.find_first_of("'\"\\`") == std::string::npos,
               "launch.command: no shell reads it, only words between spaces; it cannot have "
               "quotes. For more, name a script of yours");
}

void read_launch(const Config& launch, Campaign& campaign) {
  campaign.launch = choice<CampaignLaunch>(launch, "how", {"local", "slurm"}, "local");
  campaign.command = launch.get<std::string>("command", "");
  campaign.cluster = launch.get<std::string>("cluster", "");
  campaign.account = launch.get<std::string>("account", "");
  campaign.time = launch.get<std::string>("time", "");
  if (!campaign.time.empty()) parse_minutes(campaign.time);
  const bool is_slurm = campaign.launch == CampaignLaunch::slurm;
  ISOBAR_CHECK(!is_slurm || campaign.command.empty(),
               "launch.command: is of how local; under Slurm the cluster's profile says it");
  ISOBAR_CHECK(is_slurm || (campaign.account.empty() && campaign.time.empty()),
               "launch: account and time are of how slurm");
  ISOBAR_CHECK(campaign.cluster.empty() || find_axis(campaign, kCluster) == nullptr,
               "launch.cluster: is an axis too; leave one of them out");
  check_placeholders(campaign.command);
}

void read_measure(const Config& measure, Campaign& campaign) {
  const bool is_collective = campaign.kind == CampaignKind::collective;
  campaign.value = measure.get<std::string>("value", is_collective ? "median_s" : "step_s");
  const auto* nodes = find_axis(campaign, kNodes);
  const bool has_several = nodes != nullptr && nodes->values.size() > 1;
  const bool by_default = has_several && !is_collective && is_time(campaign.value);
  campaign.efficiency = choice<Efficiency>(measure, "efficiency", {"none", "weak", "strong"},
                                           by_default ? "weak" : "none");
  if (campaign.efficiency == Efficiency::none) return;
  ISOBAR_CHECK(has_several, "measure.efficiency: wants several values of axes.nodes");
  ISOBAR_CHECK(is_time(campaign.value), "measure.efficiency: is of times, and '", campaign.value,
               "' is none");
}

bool is_skipped(const Campaign& campaign, const CampaignPoint& point) {
  return std::any_of(campaign.skip.begin(), campaign.skip.end(), [&](const auto& conditions) {
    return std::all_of(conditions.begin(), conditions.end(), [&](const auto& condition) {
      return axis_value(point, condition.first) == condition.second;
    });
  });
}

/// Where characters had to go, a hash of the whole keeps points apart.
std::string slug_of(const CampaignValues& values) {
  std::string whole, slug;
  for (const auto& [name, value] : values) {
    whole += fmt::format("{}{}={}", whole.empty() ? "" : ",", name, value);
    auto plain = value;
    for (char& c : plain) {
      if (!is_plain("x" + std::string(1, c))) c = '-';
    }
    slug += fmt::format("{}{}={}", slug.empty() ? "" : ",", name, plain);
  }
  if (slug.empty()) return "all";
  if (slug == whole && slug.size() <= kLongestSlug) return slug;
  return fmt::format("{}.{:08x}", slug.substr(0, kLongestSlug),
                     static_cast<std::uint32_t>(fnv1a(whole)));
}

CampaignPoint make_point(CampaignValues values) {
  CampaignPoint point{.slug = slug_of(values), .values = std::move(values)};
  if (const auto nodes = axis_value(point, kNodes); !nodes.empty()) point.nodes = std::stoi(nodes);
  point.cluster = axis_value(point, kCluster);
  return point;
}

/// The place in each axis of the next combination; false after the last.
bool advance(const std::vector<CampaignAxis>& axes, std::vector<std::size_t>& places) {
  for (auto i = axes.size(); i-- > 0;) {
    if (++places[i] < axes[i].values.size()) return true;
    places[i] = 0;
  }
  return false;
}

void replace_all(std::string& text, const std::string& what, int value) {
  const auto with = std::to_string(value);
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what)) {
    text.replace(at, what.size(), with);
  }
}

}  // namespace

Campaign read_campaign(const Config& config) {
  Campaign campaign;
  const auto about = config.child("campaign");
  campaign.name = about.get<std::string>("name");
  ISOBAR_CHECK(is_plain(campaign.name), "campaign.name: '", campaign.name,
               "' is no name of a folder: letters, digits and _-.+");
  campaign.folder = about.get<std::string>("folder", "campaigns");
  read_run(config.child("run"), campaign);
  read_shared(config.child("run"), campaign);
  read_axes(config.child("axes"), campaign);
  read_skip(config, campaign);
  const auto rules = config.child("rules");
  campaign.repeats = rules.get<int>("repeats", 3, {.least = 1, .most = 1000});
  campaign.time_limit_s = 60 * rules.get<double>("time_limit_minutes", 60, {.above = 0});
  read_launch(config.child("launch"), campaign);
  read_measure(config.child("measure"), campaign);
  config.finish();
  check_own_settings(campaign);
  check_shares(campaign);
  campaign.yaml = config.yaml();
  return campaign;
}

std::vector<CampaignPoint> campaign_points(const Campaign& campaign) {
  std::vector<CampaignPoint> points;
  std::vector<std::size_t> places(campaign.axes.size(), 0);
  do {
    CampaignValues values;
    for (std::size_t i = 0; i < places.size(); ++i) {
      values.emplace_back(campaign.axes[i].name, campaign.axes[i].values[places[i]]);
    }
    auto point = make_point(std::move(values));
    if (!is_skipped(campaign, point)) points.push_back(std::move(point));
  } while (advance(campaign.axes, places));
  ISOBAR_CHECK(!points.empty(), "skip: its rules leave out every point");
  return points;
}

std::vector<std::string> axis_names(const Campaign& campaign) {
  std::vector<std::string> names;
  for (const auto& axis : campaign.axes) names.push_back(axis.name);
  return names;
}

std::vector<std::string> axis_values(const CampaignPoint& point) {
  std::vector<std::string> values;
  for (const auto& [name, value] : point.values) values.push_back(value);
  return values;
}

std::string axis_value(const CampaignPoint& point, const std::string& axis) {
  for (const auto& [name, value] : point.values) {
    if (name == axis) return value;
  }
  return {};
}

std::vector<std::string> program_arguments(const Campaign& campaign, const CampaignPoint& point) {
  const bool trains = campaign.kind == CampaignKind::train;
  std::vector<std::string> words{"train", campaign.experiment};
  if (!trains) words = {"bench", campaign.kind == CampaignKind::step ? "step" : "collective"};
  const auto add = [&](const std::string& name, const std::string& value) {
    words.push_back((trains ? "" : "--") + name + "=" + value);
  };
  const int ranks = point.nodes * campaign.ranks_per_node;
  for (const auto& [name, value] : campaign.options) add(name, value);
  for (const auto& [name, value] : campaign.shared) add(name, std::to_string(value / ranks));
  for (const auto& [name, value] : point.values) {
    if (name != kNodes && name != kCluster) add(name, value);
  }
  return words;
}

std::vector<std::string> launch_words(const Campaign& campaign, const CampaignPoint& point) {
  const int ranks = point.nodes * campaign.ranks_per_node;
  auto command = campaign.command;
  if (command.empty() && ranks > 1) command = "mpirun -n {ranks}";
  replace_all(command, "{nodes}", point.nodes);
  replace_all(command, "{ranks}", ranks);
  replace_all(command, "{ranks_per_node}", campaign.ranks_per_node);
  std::istringstream stream(command);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

bool is_time(const std::string& field) {
  return field.ends_with("_s") && !field.ends_with("_per_s") && !field.ends_with("bit_s");
}

}  // namespace isobar
