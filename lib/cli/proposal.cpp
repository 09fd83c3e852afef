// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/launch/environment.hpp>
#include <isobar/report/browser.hpp>
#include <isobar/report/proposal.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct ProposalArguments {
  std::string campaign;
  std::vector<std::string> projections;
  ProposalOptions options;
  std::string output;  ///< Markdown; empty for standard output
  std::string pdf;     ///< empty for none
  std::vector<std::string> command;
};

void write_pdf(const Report& report, const std::string& pdf) {
  const auto browser = find_browser();
  ISOBAR_CHECK(!browser.empty(),
               "campaign proposal: --pdf wants a Chromium or Chrome on the PATH (Debian: apt "
               "install chromium)");
  const std::filesystem::path page = pdf + ".html";
  write_file_atomically(page, report_page(report));
  print_page(browser, page, pdf);
  std::filesystem::remove(page);
  fmt::print("{}\n", pdf);
}

int run_proposal(const ProposalArguments& arguments) {
  if (launch_rank_or_zero() != 0) return 0;
  const auto report = make_proposal(arguments.campaign,
                                    {arguments.projections.begin(), arguments.projections.end()},
                                    arguments.options);
  const auto text = report_as_markdown(report);
  if (arguments.output.empty()) {
    fmt::print("{}", text);
  } else {
    write_file_atomically(arguments.output, text);
  }
  if (!arguments.pdf.empty()) write_pdf(report, arguments.pdf);
  return 0;
}

void add_proposal_options(CLI::App& app, ProposalArguments& arguments) {
  app.add_option("campaign", arguments.campaign, "a campaign's file or folder")->required();
  app.add_option("--projection", arguments.projections,
                 "a report of isobar project --json; several are given one after another");
  app.add_option("--samples-per-step", arguments.options.samples_per_step,
                 "samples that a node takes in a step; by default the campaign's batch")
      ->check(check_positive);
  app.add_option("--samples", arguments.options.samples,
                 "samples of the training that is applied for; by default a million")
      ->check(check_positive);
  app.add_option("--output", arguments.output, "write the Markdown to this file")
      ->check(check_report_file);
  app.add_option("--pdf", arguments.pdf, "also print it to this file, by Chromium")
      ->check(check_report_file);
}

const RegisteredCommand kProposal{
    {.place = 56,
     .group = "campaign",
     .name = "proposal",
     .description = "Write a proposal's section on scaling",
     .example = "isobar campaign proposal campaigns/weak_scaling --projection leonardo.json",
     .add = with_arguments(add_proposal_options, run_proposal)}};

}  // namespace
}  // namespace isobar
