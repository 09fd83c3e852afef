// SPDX-License-Identifier: Apache-2.0
#include "cli/experiment_file.hpp"

#include <isobar/cluster/detect.hpp>
#include <isobar/core/config.hpp>
#include <isobar/core/error.hpp>

#include <utility>

namespace isobar {
namespace {

/// The experiment's data.path as it is written; empty where it has none, which others refuse.
std::string written_path(const std::string& experiment, const std::vector<std::string>& overrides) {
  const auto data = load_config(experiment, overrides).child("data");
  return data.has("path") ? data.get<std::string>("path") : "";
}

bool names_root(const std::string& path) {
  return path.starts_with('{') && path.find('}') != std::string::npos;
}

std::string in_root(const std::string& path, const ClusterProfile& profile) {
  const auto end = path.find('}');
  try {
    return data_root(profile, path.substr(1, end - 1)) + path.substr(end + 1);
  } catch (const UsageError& error) {
    throw UsageError(detail::join("data.path: '", path, "': ", error.what()));
  }
}

/// As a value of YAML, in which a quote is doubled.
std::string as_override(const std::string& path) {
  std::string text = "data.path='";
  for (const char c : path) text += c == '\'' ? std::string("''") : std::string(1, c);
  return text + "'";
}

Experiment read_with_data(const std::string& path, std::vector<std::string> overrides,
                          const std::string& data) {
  if (!data.empty()) overrides.push_back(as_override(data));
  return read_experiment(load_config(path, overrides));
}

}  // namespace

Experiment read_experiment_file(const std::string& path, const std::vector<std::string>& overrides,
                                const ClusterProfile& machine) {
  const auto data = written_path(path, overrides);
  return read_with_data(path, overrides, names_root(data) ? in_root(data, machine) : "");
}

Experiment read_experiment_file(const std::string& path,
                                const std::vector<std::string>& overrides) {
  if (!names_root(written_path(path, overrides))) return read_with_data(path, overrides, "");
  const auto profiles = read_profiles();
  return read_experiment_file(path, overrides, profile_here(profiles, ""));
}

}  // namespace isobar
