// SPDX-License-Identifier: Apache-2.0
// What campaigns and training runs have come to, as charts and tables of one page that needs no
// network. docs/report.md describes it. One process calls this; nothing is measured.
#pragma once

#include <isobar/scaling/diagnosis.hpp>
#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

namespace isobar {

/// A number, a text, or nothing where there is no value.
using ReportCell = std::variant<std::monostate, double, std::string>;

struct ReportTable {
  std::string name = {};  ///< for files: letters, digits, '-', unlike the report's other tables'
  std::string title = {};
  std::vector<std::string> heading = {};
  std::vector<std::vector<ReportCell>> rows = {};  ///< as many cells each as the heading
};

/// A chart and, for who cannot see it, the table of what it shows.
struct ReportChart {
  std::string title = {};
  std::string note = {};    ///< how it is to be read
  std::string figure = {};  ///< JSON of plotly.js: `data`, the traces, and `layout`
  ReportTable table = {};
};

/// What a campaign, a training run or a comparison of several has to say.
struct ReportSection {
  std::string title = {};
  std::vector<std::string> notes = {};     ///< sentences, before the charts
  std::vector<std::string> findings = {};  ///< what limits a step, why, and what would cure it
  std::vector<ReportChart> charts = {};
  std::vector<ReportTable> tables = {};
};

struct Report {
  std::string title = {};
  std::vector<ReportSection> sections = {};
};

/// Reads and lays out what lies there. Each path is a campaign's folder or file, a training run's
/// folder, or a report of `--json`: of `campaign collect`, `bench step`, `bench collective`,
/// `evaluate`, or of rows with `"projected": true`. Rows of the same campaign that are projected
/// are shown beside those that are measured, in columns and with lines of their own. Profiles of
/// training runs are diagnosed with these options. Throws
/// UsageError where a path is none of these, and DataError where a file of one cannot be read.
Report make_report(const std::vector<std::filesystem::path>& paths,
                   const DiagnosisOptions& diagnosis = {});

/// What limits the training runs among these paths, as findings_as_json() has it, each with its
/// `run`; paths without a profile have none.
nlohmann::json findings_of_runs(const std::vector<std::filesystem::path>& paths,
                                const DiagnosisOptions& diagnosis = {});

/// How many charts there are; on the page they have numbers from 1.
std::size_t chart_count(const Report& report);

/// The page, whole: style, plotly.js and data are in it. Throws UsageError where this build has no
/// plotly.js.
std::string report_page(const Report& report);

/// A table as lines of values between commas, numbers with all their digits.
std::string table_as_csv(const ReportTable& table);

/// Writes every table, those of the charts too, as <folder>/<name>.csv; makes the folder. The
/// files' names.
std::vector<std::string> write_report_tables(const Report& report,
                                             const std::filesystem::path& folder);

}  // namespace isobar
