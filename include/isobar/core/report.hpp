// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace isobar {

/// For CLI11: why write_report() could not write to `file`, before there is something to write;
/// empty where nothing is known against it.
std::string check_report_file(const std::string& file);

/// Writes what `--json FILE` asks for: an object with `schema`, `commit`, `host`,
/// `command` and `rows`, indented. "-" is standard output; empty writes nothing.
///
/// The process that calls it writes: of several ranks one does. A file appears
/// whole or not at all; Error, with path and cause, where it cannot be written.
void write_report(const std::string& file, const std::string& schema,
                  const std::vector<std::string>& command, const nlohmann::json& rows);

/// The same with the keys of the object `more` beside `rows`.
void write_report(const std::string& file, const std::string& schema,
                  const std::vector<std::string>& command, const nlohmann::json& rows,
                  const nlohmann::json& more);

}  // namespace isobar
