// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/report.hpp>

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/machine.hpp>
#include <isobar/core/version.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>

namespace isobar {

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
