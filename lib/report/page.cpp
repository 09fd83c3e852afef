// SPDX-License-Identifier: Apache-2.0
// Called once all is read. The page names nothing outside of itself, and says so to the browser,
// which then refuses to fetch (Content-Security-Policy). All text that comes from users' files
// passes through html_text() or, within data, script_text().
#include <isobar/report/report.hpp>

#include "report/embedded.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/version.hpp>
#include <fmt/format.h>

#include <cmath>
#include <cstddef>

namespace isobar {
namespace {

constexpr const char* kHead =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:\">\n";

// Of plotly.js, whose licence asks for it in every copy.
constexpr const char* kPlotlyLicense =
    R"(Charts by plotly.js (https://plotly.com/javascript/). Copyright (c) Plotly, Inc. MIT License:

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.)";

std::string html_text(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

/// JSON within a script, which no text may end.
std::string script_text(const std::string& json) {
  std::string safe;
  for (const char c : json) safe += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return safe;
}

std::string shown_number(double number) {
  constexpr double kWhole = 1e15;
  if (std::abs(number) < kWhole && number == std::floor(number))
    return fmt::format("{:.0f}", number);
  return fmt::format("{:.4g}", number);
}

std::string html_cell(const ReportCell& cell, bool is_first) {
  const auto* number = std::get_if<double>(&cell);
  const auto* text = std::get_if<std::string>(&cell);
  const auto* tag = is_first ? "th" : "td";
  const auto* scope = is_first ? " scope=\"row\"" : "";
  if (number != nullptr) {
    return fmt::format("<{}{} class=\"n\">{}</{}>", tag, scope, shown_number(*number), tag);
  }
  return fmt::format("<{}{}>{}</{}>", tag, scope, text != nullptr ? html_text(*text) : "", tag);
}

/// Whether a column's cells are numbers, whose heading then stands over them.
bool is_of_numbers(const ReportTable& table, std::size_t column) {
  for (const auto& row : table.rows) {
    if (!std::holds_alternative<std::string>(row[column])) continue;
    return false;
  }
  return true;
}

std::string html_table(const ReportTable& table) {
  auto text = fmt::format("<div class=\"wide\"><table>\n<caption>{}</caption>\n<thead><tr>",
                          html_text(table.title));
  for (std::size_t i = 0; i < table.heading.size(); ++i) {
    text += fmt::format("<th scope=\"col\"{}>{}</th>",
                        is_of_numbers(table, i) ? " class=\"n\"" : "", html_text(table.heading[i]));
  }
  text += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    text += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) text += html_cell(row[i], i == 0);
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

std::string html_chart(const ReportChart& chart, std::size_t number) {
  const auto title = html_text(chart.title);
  const auto note = chart.note.empty() ? "" : fmt::format("<p>{}</p>\n", html_text(chart.note));
  return fmt::format(
      "<figure id=\"chart-{0}\" aria-labelledby=\"chart-{0}-title\">\n"
      "<h3 id=\"chart-{0}-title\">{1}</h3>\n"
      "<div class=\"plot\" role=\"img\" aria-label=\"{1}; the table below has its "
      "figures\"></div>\n"
      "<script type=\"application/json\">{2}</script>\n{3}"
      "<details><summary>The figures of this chart</summary>\n{4}</details>\n</figure>\n",
      number, title, script_text(chart.figure), note, html_table(chart.table));
}

std::string html_section(const ReportSection& section, std::size_t number, std::size_t& charts) {
  auto text =
      fmt::format("<section id=\"section-{}\">\n<h2>{}</h2>\n", number, html_text(section.title));
  if (!section.findings.empty()) {
    text += "<h3>What limits a step</h3>\n<ul>\n";
    for (const auto& one : section.findings) text += "<li>" + html_text(one) + "</li>\n";
    text += "</ul>\n";
  }
  if (!section.notes.empty()) {
    text += "<ul>\n";
    for (const auto& note : section.notes) text += "<li>" + html_text(note) + "</li>\n";
    text += "</ul>\n";
  }
  for (const auto& chart : section.charts) text += html_chart(chart, ++charts);
  for (const auto& table : section.tables) text += html_table(table);
  return text + "</section>\n";
}

std::string contents_of(const Report& report) {
  if (report.sections.size() < 2) return "";
  std::string text = "<nav aria-label=\"Contents\"><ol>\n";
  for (std::size_t i = 0; i < report.sections.size(); ++i) {
    text += fmt::format("<li><a href=\"#section-{}\">{}</a></li>\n", i + 1,
                        html_text(report.sections[i].title));
  }
  return text + "</ol></nav>\n";
}

}  // namespace

std::string report_page(const Report& report) {
  const auto plotly = plotly_script();
  ISOBAR_CHECK(!plotly.empty(),
               "report: this isobar was built without plotly.js, which draws the charts; build it "
               "after scripts/setup or with -DISOBAR_PLOTLY_JS=FILE, or take --csv alone");
  const auto title = html_text(report.title);
  std::string page = kHead;
  page += "<title>" + title + "</title>\n<style>\n";
  page += page_style();
  page += "</style>\n</head>\n<body>\n<header><h1>" + title + "</h1>\n";
  page +=
      fmt::format("<p class=\"by\">By isobar {} (commit {}).</p></header>\n", version(), commit());
  page += contents_of(report) + "<main>\n";
  std::size_t charts = 0;
  for (std::size_t i = 0; i < report.sections.size(); ++i) {
    page += html_section(report.sections[i], i + 1, charts);
  }
  page += "</main>\n<footer><details><summary>Licence of plotly.js</summary><pre>";
  page += html_text(kPlotlyLicense) + "</pre></details></footer>\n<script>\n";
  page += plotly;
  page += "</script>\n<script>\n";
  page += page_script();
  return page + "</script>\n</body>\n</html>\n";
}

}  // namespace isobar
