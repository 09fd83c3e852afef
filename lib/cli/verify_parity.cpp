// SPDX-License-Identifier: Apache-2.0
#include "cli/command.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>
#include <isobar/core/report.hpp>
#include <isobar/weather/compare_parity.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace isobar {
namespace {

struct VerifyParityArguments {
  std::string file;
  std::string partition = "bands";
  std::string activations = "keep";
  std::string json;  ///< file, "-" for standard output, empty for none
  std::vector<std::string> command;
};

nlohmann::json json_rows(const std::vector<ParityRow>& rows, const std::string& precision,
                         int ranks) {
  auto all = nlohmann::json::array();
  for (const ParityRow& row : rows) {
    all.push_back({{"precision", precision},
                   {"ranks", ranks},
                   {"quantity", row.quantity},
                   {"max_abs_error", row.error},
                   {"max_relative_to_tensor", row.relative},
                   {"tolerance", row.tolerance},
                   {"holds", row.holds()}});
  }
  return all;
}

/// Output, loss and updates as they are; of gradients the worst, and each that does not hold.
void print_rows(const std::vector<ParityRow>& rows, const std::string& precision) {
  const auto is_gradient = [](const ParityRow& row) {
    return row.quantity.starts_with("gradient");
  };
  const ParityRow* worst = nullptr;
  size_t gradients = 0;
  for (const ParityRow& row : rows) {
    if (!is_gradient(row)) continue;
    ++gradients;
    if (worst == nullptr || !(row.relative <= worst->relative)) worst = &row;
  }
  for (const ParityRow& row : rows) {
    if (is_gradient(row) && row.holds() && &row != worst) continue;
    fmt::print("{:7} {:10.3e} {:10.3e} {:6.0e} {}  {}\n", precision, row.error, row.relative,
               row.tolerance, row.holds() ? "holds" : "FAILS", row.quantity);
  }
  fmt::print("{:8} {} gradients, the worst is shown\n", precision, gradients);
}

void add_verify_parity_options(CLI::App& app, VerifyParityArguments& arguments) {
  app.add_option("file", arguments.file,
                 "an HDF5 file with the other program's graph, weights and results")
      ->required();
  app.add_option("--partition", arguments.partition, "how the ranks share the graph")
      ->check(CLI::IsMember({"bands", "bisection"}));
  app.add_option("--activations", arguments.activations,
                 "keep them for the backward pass, or compute them again")
      ->check(CLI::IsMember({"keep", "recompute"}));
  app.add_option("--json", arguments.json,
                 "write the result as JSON to this file; - is standard output")
      ->check(check_report_file);
}

/// Computes what a parity file holds, the ranks sharing its sample, in float32 and float64, and
/// compares: output, loss, every gradient, losses over AdamW updates. Returns 0 if all agree.
int run_verify_parity(const VerifyParityArguments& arguments) {
  const auto world = make_communicator();
  const ParityOptions options{
      .partition = parse_partition_method(arguments.partition),
      .activations = arguments.activations == "keep" ? Activations::keep : Activations::recompute};
  bool holds = true;
  auto all = nlohmann::json::array();
  compare_parity(*world, arguments.file, options,
                 [&](const std::string& precision, const std::vector<ParityRow>& rows) {
                   for (const ParityRow& row : rows) holds = holds && row.holds();
                   for (auto& row : json_rows(rows, precision, world->size())) all.push_back(row);
                   if (world->rank() == 0 && arguments.json != "-") print_rows(rows, precision);
                 });
  run_agreed(*world, [&] {
    if (world->rank() != 0) return;
    write_report(arguments.json, "isobar.verify_parity.1", arguments.command, all);
    if (arguments.json != "-") fmt::print("{}\n", holds ? "parity holds" : "parity FAILS");
    std::fflush(stdout);
  });
  return holds ? 0 : 1;
}

const RegisteredCommand kVerifyParity{
    {.place = 60,
     .group = "",
     .name = "verify-parity",
     .description = "Compare the network with another program's",
     .example = "isobar verify-parity anemoi_gnn.h5",
     .add = with_arguments(add_verify_parity_options, run_verify_parity)}};

}  // namespace
}  // namespace isobar
