// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/graph/doctor.hpp>
#include <isobar/graph/graph_file.hpp>
#include <nlohmann/json_fwd.hpp>

#include <string>

namespace isobar {

/// "ico6", or the hidden grid's name.
std::string hidden_name(const GraphOptions& options);

/// For people: one line of sizes; the whole report, with the ranks of one partition.
std::string graph_line(const StoredGraph& stored);
std::string graph_table(const GraphReport& report, PartitionMethod method);

/// For scripts: the sizes; with `kind` in each row, all of the report.
nlohmann::json graph_row(const StoredGraph& stored);
nlohmann::json graph_rows(const StoredGraph& stored, const GraphReport& report,
                          PartitionMethod method);

}  // namespace isobar
