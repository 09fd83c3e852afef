// SPDX-License-Identifier: Apache-2.0
#include <isobar/report/report.hpp>

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>

namespace isobar {
namespace {

std::string csv_text(const ReportCell& cell) {
  if (const auto* number = std::get_if<double>(&cell)) return fmt::format("{}", *number);
  const auto* text = std::get_if<std::string>(&cell);
  if (text == nullptr) return "";
  if (text->find_first_of(",\"\r\n") == std::string::npos) return *text;
  std::string quoted = "\"";
  for (const char c : *text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

template <typename Cells>
std::string line_of(const Cells& cells) {
  std::vector<std::string> texts;
  for (const auto& cell : cells) texts.push_back(csv_text(cell));
  return join_words(texts, ",") + "\n";
}

}  // namespace

std::string table_as_csv(const ReportTable& table) {
  auto text = line_of(table.heading);
  for (const auto& row : table.rows) text += line_of(row);
  return text;
}

std::vector<std::string> write_report_tables(const Report& report,
                                             const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  std::vector<std::string> names;
  const auto write = [&](const ReportTable& table) {
    names.push_back(table.name + ".csv");
    write_file_atomically(folder / names.back(), table_as_csv(table));
  };
  for (const auto& section : report.sections) {
    for (const auto& chart : section.charts) write(chart.table);
    for (const auto& table : section.tables) write(table);
  }
  return names;
}

}  // namespace isobar
