// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/report.hpp>

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/version.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>
#include <system_error>

namespace isobar {

std::string check_report_file(const std::string& file) {
  if (file.empty() || file == "-") return {};
  const std::filesystem::path path(file);
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  std::error_code none;
  if (std::filesystem::is_directory(path, none)) return "'" + file + "' is a folder; name a file";
  if (std::filesystem::is_directory(folder, none)) return {};
  return "there is no folder '" + folder.string() + "'; make it first";
}

void write_report(const std::string& file, const std::string& schema,
                  const std::vector<std::string>& command, const nlohmann::json& rows) {
  write_report(file, schema, command, rows, nlohmann::json::object());
}

void write_report(const std::string& file, const std::string& schema,
                  const std::vector<std::string>& command, const nlohmann::json& rows,
                  const nlohmann::json& more) {
  if (file.empty()) return;
  nlohmann::json report{{"schema", schema},
                        {"commit", commit()},
                        {"host", host_name()},
                        {"command", command},
                        {"rows", rows}};
  report.update(more);
  const auto text = report.dump(2) + "\n";
  if (file == "-") {
    std::fputs(text.c_str(), stdout);
  } else {
    write_file_atomically(file, text);
  }
}

}  // namespace isobar
