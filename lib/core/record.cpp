// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/record.hpp>

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/version.hpp>

#include <nlohmann/json.hpp>
#include <array>
#include <chrono>
#include <ctime>

namespace isobar {
namespace {

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

nlohmann::json provenance(const RunRecordOptions& options) {
  return {{"schema", "isobar.record/1"}, {"isobar", {{"version", version()}, {"commit", commit()}}},
          {"torch", torch_version()},    {"compiler", compiler()},
          {"host", host_name()},         {"command", options.command},
          {"start_time", utc_now()},     {"ranks", options.ranks},
          {"config", options.config}};
}

bool is_provenance(const std::string& section) {
  static const nlohmann::json names = provenance({});
  return names.contains(section);
}

}  // namespace

RunRecord::RunRecord(const RunRecordOptions& options)
    : json_(std::make_unique<nlohmann::json>(provenance(options))) {}

RunRecord::~RunRecord() = default;
RunRecord::RunRecord(RunRecord&&) noexcept = default;
RunRecord& RunRecord::operator=(RunRecord&&) noexcept = default;

void RunRecord::set(const std::string& section, const nlohmann::json& value) {
  ISOBAR_CHECK(!is_provenance(section), "RunRecord: section '", section,
               "' is the record's own provenance; choose another name");
  (*json_)[section] = value;
}

std::string RunRecord::text() const {
  // A command line or a configuration may hold bytes that are not UTF-8.
  return json_->dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void RunRecord::write(const std::filesystem::path& path) const {
  write_file_atomically(path, text());
}

}  // namespace isobar
