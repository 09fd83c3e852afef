// SPDX-License-Identifier: Apache-2.0
#include "scaling/conditions.hpp"

#include <isobar/core/file_hash.hpp>
#include <isobar/core/version.hpp>
#include <isobar/launch/environment.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <set>

namespace isobar {
namespace {

using nlohmann::json;

constexpr std::size_t kShown = 40;

json environment_now() {
  auto found = json::object();
  for (const auto& [name, value] : environment_variables()) {
    if (is_condition(name)) found[name] = value;
  }
  return found;
}

/// As Linux names it on x86; elsewhere null.
json processor_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return nullptr;
}

const char* name_of_kind(CampaignKind kind) {
  if (kind == CampaignKind::train) return "train";
  return kind == CampaignKind::step ? "step" : "collective";
}

json settings_of(const Campaign& campaign) {
  json found{{"kind", name_of_kind(campaign.kind)},
             {"ranks_per_node", campaign.ranks_per_node},
             {"launch", campaign.command},
             {"options", campaign.options},
             {"shared", campaign.shared}};
  if (!campaign.experiment.empty()) {
    found["experiment"] = campaign.experiment;
    found["experiment_text"] = hash_file(campaign.experiment).xxh3_128;
  }
  return found;
}

/// "/environment/A" as "environment.A".
std::string dotted(std::string pointer) {
  pointer.erase(0, 1);
  std::replace(pointer.begin(), pointer.end(), '/', '.');
  for (auto at = pointer.find("~1"); at != std::string::npos; at = pointer.find("~1")) {
    pointer.replace(at, 2, "/");
  }
  return pointer;
}

std::string shown(const json& flat, const std::string& key) {
  if (!flat.contains(key)) return "unset";
  const auto& value = flat.at(key);
  auto text = value.is_string() ? value.get<std::string>() : value.dump();
  const bool is_hash = text.size() == 32 && text.find_first_not_of("0123456789abcdef") == text.npos;
  if (is_hash) return text.substr(0, 8);
  return text.size() > kShown ? text.substr(0, kShown) + "..." : text;
}

}  // namespace

bool is_condition(const std::string& variable) {
  static const std::set<std::string> kNames{"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
                                            "LOADEDMODULES", "LD_PRELOAD"};
  if (kNames.count(variable) > 0) return true;
  if (variable.starts_with("ISOBAR_SECRET")) return false;  // records are handed on
  for (const char* prefix :
       {"OMP_", "KMP_", "MKL_", "OMPI_MCA_", "NCCL_", "RCCL_", "UCX_", "FI_", "GLOO_", "ISOBAR_"}) {
    if (variable.starts_with(prefix)) return true;
  }
  return false;
}

json conditions_now(const Campaign& campaign, const CampaignRunOptions& options) {
  auto data = json::object();
  for (const auto& file : options.data_files) data[file] = hash_file(file).xxh3_128;
  // A batch job's processor is not that of the node that it is submitted from.
  const bool is_local = campaign.launch == CampaignLaunch::local;
  return {{"run", settings_of(campaign)},
          {"commit", commit()},
          {"program", hash_file(options.program).xxh3_128},
          {"data", data},
          {"environment", environment_now()},
          {"processor", is_local ? processor_model() : json()}};
}

std::vector<std::string> condition_differences(const json& a, const json& b) {
  const auto in_a = a.flatten(), in_b = b.flatten();
  std::set<std::string> keys;
  for (const auto* each : {&in_a, &in_b}) {
    for (const auto& item : each->items()) keys.insert(item.key());
  }
  std::vector<std::string> found;
  for (const auto& key : keys) {
    const bool both = in_a.contains(key) && in_b.contains(key);
    if (key.starts_with("/data") && !both) continue;
    // An object without keys is flattened to a null of its own.
    const bool no_keys = !both && (in_a.contains(key) ? in_a : in_b).at(key).is_null();
    if (no_keys || (both && in_a.at(key) == in_b.at(key))) continue;
    found.push_back(fmt::format("{}: {} and {}", dotted(key), shown(in_a, key), shown(in_b, key)));
  }
  return found;
}

}  // namespace isobar
