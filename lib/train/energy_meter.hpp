// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace isobar {

/// Energy that this node's processors have taken, by the counters of Linux (powercap, RAPL), which
/// most systems let root alone read.
class EnergyMeter {
 public:
  explicit EnergyMeter(const std::filesystem::path& folder = "/sys/class/powercap");

  /// Counts what was taken since the last read() or skip(). Counters begin again after some
  /// 260 kJ, so not more than some minutes may lie between two calls.
  void read() { look(/*counts=*/true); }

  /// What was taken since then is not counted.
  void skip() { look(/*counts=*/false); }

  /// Nothing where there is no counter, or one could not be read.
  std::optional<double> joules() const;

 private:
  struct Counter {
    std::filesystem::path file;
    uint64_t range = 0;  ///< it counts up to here, in microjoules
    uint64_t last = 0;
  };
  void look(bool counts);

  std::vector<Counter> counters_;
  bool is_whole_ = true;
  double joules_ = 0;
};

}  // namespace isobar
