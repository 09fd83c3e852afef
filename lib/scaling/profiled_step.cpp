// SPDX-License-Identifier: Apache-2.0
// Reads what a training run leaves of its step.
#include <isobar/scaling/diagnosis.hpp>

#include <isobar/core/error.hpp>
#include <nlohmann/json.hpp>

#include <fstream>
#include <utility>

namespace isobar {
namespace {

using nlohmann::json;

constexpr const char* kSchema = "isobar.profile.1";

double number_at(const json& object, const char* key) {
  ISOBAR_CHECK(object.contains(key) && object.at(key).is_number(), "profile: no number '", key,
               "'");
  return object.at(key).get<double>();
}

std::optional<double> optional_number(const json& object, const char* key) {
  if (!object.contains(key) || !object.at(key).is_number()) return std::nullopt;
  return object.at(key).get<double>();
}

/// What record.json says beside a profile; nothing where a run of another version left it.
std::optional<ProfiledData> data_beside(const std::filesystem::path& profile) {
  std::ifstream in(profile.parent_path() / "record.json");
  const auto record = json::parse(in, nullptr, /*allow_exceptions=*/false);
  const json::json_pointer place("/data/memory");
  if (!record.is_object() || !record.contains(place)) return std::nullopt;
  const auto& memory = record.at(place);
  const auto bytes = optional_number(memory, "bytes");
  const auto cache = optional_number(memory, "cache_bytes");
  const auto machine = optional_number(memory, "machine_bytes");
  if (!bytes || !cache || !machine) return std::nullopt;
  return ProfiledData{*bytes, *cache, *machine};
}

}  // namespace

ProfiledStep read_profiled_step(const json& profile) {
  ISOBAR_CHECK(profile.is_object() && profile.value("schema", "") == kSchema,
               "profile: wanted an object of schema ", kSchema);
  ProfiledStep read{.steps = static_cast<std::int64_t>(number_at(profile, "steps")),
                    .step_s = number_at(profile, "step_s"),
                    .ranks = {},
                    .collectives = {}};
  for (const auto& rank : profile.at("ranks")) {
    ProfiledRank one{.rank = static_cast<int>(number_at(rank, "rank")),
                     .host = rank.value("host", ""),
                     .step_s = number_at(rank, "step_s"),
                     .seconds = rank.at("seconds").get<std::map<std::string, double>>()};
    one.run_delay_s = optional_number(rank, "run_delay_s");
    one.throttled_s = optional_number(rank, "throttled_s");
    one.helpers_cpu_s = optional_number(rank, "helpers_cpu_s");
    read.ranks.push_back(std::move(one));
  }
  ISOBAR_CHECK(!read.ranks.empty(), "profile: it has no ranks");
  for (const auto& row : profile.value("collectives", json::array())) {
    read.collectives.push_back({.asker = row.at("asker").get<std::string>(),
                                .operation = row.at("operation").get<std::string>(),
                                .calls = number_at(row, "calls_per_step"),
                                .bytes = number_at(row, "bytes_per_step"),
                                .seconds = row.value("seconds_per_step", 0.0),
                                .exposed_s = row.value("exposed_s_per_step", 0.0)});
  }
  return read;
}

ProfiledStep load_profiled_step(const std::filesystem::path& path) {
  const auto file = std::filesystem::is_directory(path) ? path / "profile.json" : path;
  ISOBAR_CHECK(!std::filesystem::exists(path / "campaign.yaml"), "profile: '", path.string(),
               "' is a campaign; give the folder of one training run");
  std::ifstream in(file);
  ISOBAR_CHECK(in, "profile: cannot read '", file.string(),
               "', which a training run writes at its end: let it end, or train it again");
  const auto profile = json::parse(in, nullptr, /*allow_exceptions=*/false);
  ISOBAR_CHECK(!profile.is_discarded(), "profile: '", file.string(), "' is no JSON");
  auto read = read_profiled_step(profile);
  read.data = data_beside(file);
  return read;
}

}  // namespace isobar
