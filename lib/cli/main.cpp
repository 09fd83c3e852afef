// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_collective.hpp"
#include "cli/bench_compression.hpp"
#include "cli/bench_step.hpp"
#include "cli/commands.hpp"
#include "cli/data_inspect.hpp"
#include "cli/data_verify.hpp"
#include "cli/graph.hpp"
#include "cli/plan.hpp"
#include "cli/verify_layout.hpp"
#include "cli/verify_parity.hpp"

#include <isobar/comm/environment.hpp>
#include <isobar/core/error.hpp>
#include <c10/util/Exception.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <cstdlib>
#include <functional>

namespace {

int rank_or_zero() {
  try {
    return isobar::read_launch_environment().rank;
  } catch (const isobar::Error&) {
    return 0;
  }
}

void print_error(const std::string& text) {
  std::fflush(stdout);
  std::fprintf(stderr, "isobar: error: %s\n", text.substr(0, text.find('\n')).c_str());
  std::fflush(stderr);
}

/// A rank that fails alone leaves at once and without MPI_Finalize, which would wait for ranks
/// that wait for it: the launcher then ends those.
[[noreturn]] void leave(int code) {
  std::fflush(nullptr);
  std::_Exit(code);
}

/// 2 for wrong usage: a command line, a key of an experiment, a file of it that is not there.
int code_of(const isobar::Error& error) {
  return dynamic_cast<const isobar::UsageError*>(&error) != nullptr ? 2 : 1;
}

int run_guarded(const std::function<int()>& command) {
  try {
    return command();
  } catch (const isobar::Error& error) {
    // What every rank throws, rank 0 says for all.
    if (!error.known_to_all() || rank_or_zero() == 0) print_error(error.what());
    if (!error.known_to_all()) leave(code_of(error));
    return code_of(error);
  } catch (const c10::Error& error) {
    print_error(error.what_without_backtrace());
    leave(1);
  } catch (const std::exception& error) {
    print_error(error.what());
    leave(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> command(argv, argv + argc);
  CLI::App app{"Data-parallel training of weather models on LibTorch"};
  app.require_subcommand(1);
  app.set_version_flag("--version", [] { return isobar::version_text(); });

  isobar::TrainArguments train;
  train.command = command;
  auto* train_command = app.add_subcommand("train", "Train an experiment");
  train_command->add_option("experiment", train.experiment, "a YAML file")->required();
  train_command->add_option("overrides", train.overrides, "section.key=value, over the file's");

  isobar::EvaluateArguments evaluate;
  evaluate.command = command;
  auto* evaluate_command = app.add_subcommand("evaluate", "Score a checkpoint");
  evaluate_command->add_option("path", evaluate.path, "a run's folder, or a checkpoint's")
      ->required();
  evaluate_command->add_option("overrides", evaluate.overrides, "section.key=value");
  evaluate_command->add_option("--split", evaluate.split, "which period")
      ->check(CLI::IsMember({"validation", "test"}));
  evaluate_command
      ->add_option("--rollout", evaluate.rollout,
                   "score every step of forecasts of so many, not the experiment's lead times")
      ->check(CLI::PositiveNumber);
  evaluate_command
      ->add_option("--climatology", evaluate.climatology,
                   "anomalies are from the training period's, or none are scored")
      ->check(CLI::IsMember({"training", "none"}));
  evaluate_command->add_flag("--spectra", evaluate.spectra,
                             "power of forecast and truth by wavenumber");
  evaluate_command->add_option("--json", evaluate.json,
                               "write the rows there; - is standard output");

  isobar::BenchCollectiveArguments bench;
  bench.common.command = command;
  auto* bench_command = app.add_subcommand("bench", "Measure")->require_subcommand(1);
  auto* collective_command = bench_command->add_subcommand("collective", "One collective, checked");
  isobar::add_bench_collective_options(*collective_command, bench);
  isobar::BenchStepArguments step;
  step.common.command = command;
  auto* step_command = bench_command->add_subcommand("step", "A training step, checked");
  isobar::add_bench_step_options(*step_command, step);
  isobar::BenchCompressionArguments compression;
  compression.step.common.command = command;
  auto* compression_command = bench_command->add_subcommand(
      "compression", "What each way to compress gradients would do to a step");
  isobar::add_bench_compression_options(*compression_command, compression);

  isobar::VerifyParityArguments parity;
  parity.command = command;
  auto* parity_command = app.add_subcommand(
      "verify-parity", "Compare the network with what another program made of a sample");
  isobar::add_verify_parity_options(*parity_command, parity);

  isobar::VerifyLayoutArguments layout;
  layout.command = command;
  auto* layout_command = app.add_subcommand(
      "verify-layout", "Train the same steps on several layouts of ranks and compare");
  isobar::add_verify_layout_options(*layout_command, layout);
  isobar::PlanArguments plan;
  plan.command = command;
  auto* plan_command = app.add_subcommand("plan", "Predict what a training step takes");
  isobar::add_plan_options(*plan_command, plan);
  isobar::GraphArguments graph;
  graph.command = command;
  auto* graph_command = app.add_subcommand("graph", "A model's mesh")->require_subcommand(1);
  auto* build_command = graph_command->add_subcommand("build", "Build one and write its file");
  isobar::add_graph_build_options(*build_command, graph);
  auto* info_command =
      graph_command->add_subcommand("info", "What one is, by ranks, and what is amiss with it");
  isobar::add_graph_info_options(*info_command, graph);

  isobar::DataInspectArguments inspect;
  inspect.command = command;
  auto* data_command = app.add_subcommand("data", "Files to train on")->require_subcommand(1);
  auto* inspect_command =
      data_command->add_subcommand("inspect", "What a netCDF file holds, by variable");
  isobar::add_data_inspect_options(*inspect_command, inspect);

  isobar::DataVerifyArguments verify;
  verify.command = command;
  auto* verify_command =
      data_command->add_subcommand("verify", "What does not look like weather in files");
  isobar::add_data_verify_options(*verify_command, verify);

  std::string doctor_json;
  auto* doctor_command = app.add_subcommand("doctor", "Say what was found on this machine");
  doctor_command->add_option("--json", doctor_json, "write the rows there; - is standard output");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return run_guarded([&] {
    if (*train_command) return isobar::run_train(train);
    if (*evaluate_command) return isobar::run_evaluate(evaluate);
    if (*layout_command) return isobar::run_verify_layout(layout);
    if (*plan_command) return isobar::run_plan(plan);
    if (*parity_command) return isobar::run_verify_parity(parity);
    if (*collective_command) return isobar::run_bench_collective(bench);
    if (*step_command) return isobar::run_bench_step(step);
    if (*compression_command) return isobar::run_bench_compression(compression);
    if (*inspect_command) return isobar::run_data_inspect(inspect);
    if (*verify_command) return isobar::run_data_verify(verify);
    if (*build_command) return isobar::run_graph_build(graph);
    if (*info_command) return isobar::run_graph_info(graph);
    return isobar::run_doctor(doctor_json, command);
  });
}
