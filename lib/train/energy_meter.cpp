// SPDX-License-Identifier: Apache-2.0
#include "train/energy_meter.hpp"

#include <fstream>
#include <string>
#include <system_error>

namespace isobar {
namespace {

namespace fs = std::filesystem;

std::optional<uint64_t> number_in(const fs::path& file) {
  uint64_t number = 0;
  if (std::ifstream(file) >> number) return number;
  return std::nullopt;
}

/// Packages, and memory, which is no part of them. Cores are, and "psys" is all of it again.
bool is_counted(const fs::path& zone) {
  std::string name;
  std::ifstream(zone / "name") >> name;
  return name.starts_with("package") || name == "dram";
}

}  // namespace

EnergyMeter::EnergyMeter(const fs::path& folder) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    if (!is_counted(entry.path())) continue;
    const auto range = number_in(entry.path() / "max_energy_range_uj");
    counters_.push_back({entry.path() / "energy_uj", range.value_or(0)});
  }
  skip();
}

void EnergyMeter::look(bool counts) {
  for (auto& counter : counters_) {
    const auto now = number_in(counter.file);
    is_whole_ = is_whole_ && now && (*now >= counter.last || counter.range > 0);
    if (!is_whole_) return;
    const auto taken =
        *now >= counter.last ? *now - counter.last : *now + counter.range - counter.last;
    counter.last = *now;
    if (counts) joules_ += 1e-6 * static_cast<double>(taken);
  }
}

std::optional<double> EnergyMeter::joules() const {
  if (counters_.empty() || !is_whole_) return std::nullopt;
  return joules_;
}

}  // namespace isobar
