// SPDX-License-Identifier: Apache-2.0
// The tree of commands, and how the program ends: 0 if every check of a command held, 2 for wrong
// usage, 1 otherwise. Each command's options are added by the file that runs it.
#include "cli/bench_collective.hpp"
#include "cli/bench_compression.hpp"
#include "cli/bench_step.hpp"
#include "cli/command_line.hpp"
#include "cli/commands.hpp"
#include "cli/data_inspect.hpp"
#include "cli/data_verify.hpp"
#include "cli/graph.hpp"
#include "cli/init.hpp"
#include "cli/plan.hpp"
#include "cli/verify_layout.hpp"
#include "cli/verify_parity.hpp"

#include <isobar/comm/environment.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/version.hpp>
#include <c10/util/Exception.h>
#include <CLI/CLI.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "bench/harness/option_check.hpp"

namespace isobar {
namespace {

int rank_or_zero() {
  try {
    return read_launch_environment().rank;
  } catch (const Error&) {
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

/// 2 for wrong usage: a command line, an experiment that is not there or a key of it. What is wrong
/// with the data, a file of them that is not there included, is 1.
int code_of(const Error& error) {
  return dynamic_cast<const UsageError*>(&error) != nullptr ? 2 : 1;
}

/// The code of a command whose output has arrived: what a full disk took is an error.
int once_written(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  print_error(std::string("standard output: ") + std::strerror(errno));
  return code == 0 ? 1 : code;
}

int run_guarded(const std::function<int()>& command) {
  try {
    return once_written(command());
  } catch (const Error& error) {
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

constexpr const char* kFooter =
    R"(Several ranks: mpirun -n 4 isobar COMMAND ..., or srun. As root, with more ranks
than cores, on threads and binding: docs/communication.md, "Start the ranks".
Completion in bash: source <(isobar completion). All commands: isobar man | man -l -

Example:
  isobar train examples/experiments/quickstart.yaml run.name=first)";

/// The program's commands. Options write into its members, so it stays where it is.
class Program {
 public:
  Program(int argc, char** argv) : words_(argv, argv + argc) {
    app_.require_subcommand(1);
    app_.set_version_flag("--version", [] { return version_text(); });
    app_.footer(kFooter);
    set_help_style(app_);
    add_training();
    add_bench();
    add_checks();
    add_graph();
    add_data();
    add_helpers();
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  int run() {
    const std::vector<std::string> rest(words_.begin() + 1, words_.end());
    try {
      app_.parse(std::vector<std::string>(rest.rbegin(), rest.rend()));
    } catch (const CLI::Success& wanted) {  // help or version
      return rank_or_zero() == 0 ? app_.exit(wanted) : 0;
    } catch (const CLI::ParseError& refusal) {
      if (rank_or_zero() == 0) refuse(rest, refusal.what());
      return 2;
    }
    for (const auto& [command, run] : commands_) {
      if (*command) return run_guarded(run);
    }
    return 2;
  }

 private:
  void refuse(const std::vector<std::string>& rest, const std::string& refusal) const {
    if (const auto* command = command_without_subcommand(app_, rest)) {
      std::fputs(command->help().c_str(), stdout);
    } else {
      print_error(explain_refusal(app_, rest, refusal));
    }
  }

  CLI::App& add(CLI::App& parent, const std::string& name, const std::string& description,
                const std::string& example, std::function<int()> run) {
    auto* command = parent.add_subcommand(name, description);
    set_example(*command, example);
    commands_.emplace_back(command, std::move(run));
    return *command;
  }

  /// A command that has commands.
  CLI::App& add_group(const std::string& name, const std::string& description) {
    auto* group = app_.add_subcommand(name, description);
    group->require_subcommand(1);
    return *group;
  }

  void add_training() {
    init_.command = words_;
    add_init_options(
        add(app_, "init", "Write an experiment that trains on a file of your own",
            "isobar init era5.nc && isobar train era5.yaml", [this] { return run_init(init_); }),
        init_);
    train_.command = words_;
    auto& train = add(app_, "train", "Train an experiment",
                      "mpirun -n 2 isobar train experiment.yaml train.steps=100 run.name=short",
                      [this] { return run_train(train_); });
    train.add_option("experiment", train_.experiment, "a YAML file")->required();
    train.add_option("overrides", train_.overrides, "section.key=value, over the file's");
    add_evaluate();
    plan_.command = words_;
    add_plan_options(add(app_, "plan", "Predict what a training step takes",
                         "isobar plan experiment.yaml --nodes 8 --node-gbit-s 200",
                         [this] { return run_plan(plan_); }),
                     plan_);
  }

  void add_evaluate() {
    evaluate_.command = words_;
    auto& evaluate = add(app_, "evaluate", "Score a checkpoint",
                         "isobar evaluate runs/quickstart --split validation --json scores.json",
                         [this] { return run_evaluate(evaluate_); });
    evaluate.add_option("path", evaluate_.path, "a run's folder, or a checkpoint's")->required();
    evaluate.add_option("overrides", evaluate_.overrides, "section.key=value");
    evaluate.add_option("--split", evaluate_.split, "which period")
        ->check(CLI::IsMember({"validation", "test"}));
    evaluate
        .add_option("--rollout", evaluate_.rollout,
                    "score every step of forecasts of so many, not the experiment's lead times")
        ->check(bench::check_positive)
        ->default_str("");
    evaluate
        .add_option("--climatology", evaluate_.climatology,
                    "anomalies are from the training period's, or none are scored")
        ->check(CLI::IsMember({"training", "none"}));
    evaluate.add_flag("--spectra", evaluate_.spectra, "power of forecast and truth by wavenumber");
    evaluate.add_option("--json", evaluate_.json, "write the rows there; - is standard output");
  }

  void add_bench() {
    auto& bench = add_group("bench", "Measure");
    collective_.common.command = words_;
    add_bench_collective_options(
        add(bench, "collective", "One collective, checked",
            "mpirun -n 4 isobar bench collective --op allreduce --bytes 64KiB..64MiB",
            [this] { return run_bench_collective(collective_); }),
        collective_);
    step_.common.command = words_;
    add_bench_step_options(
        add(bench, "step", "A training step, checked",
            "mpirun -n 4 isobar bench step --model mlp --sync ddp --bucket-cap 25MiB",
            [this] { return run_bench_step(step_); }),
        step_);
    compression_.step.common.command = words_;
    add_bench_compression_options(
        add(bench, "compression", "What each way to compress gradients would do to a step",
            "mpirun -n 4 isobar bench compression --model mlp --width 1024 --measure 3",
            [this] { return run_bench_compression(compression_); }),
        compression_);
  }

  void add_checks() {
    parity_.command = words_;
    add_verify_parity_options(
        add(app_, "verify-parity", "Compare the network with what another program made of a sample",
            "isobar verify-parity anemoi_gnn.h5", [this] { return run_verify_parity(parity_); }),
        parity_);
    layout_.command = words_;
    add_verify_layout_options(
        add(app_, "verify-layout", "Train the same steps on several layouts of ranks and compare",
            "isobar verify-layout examples/experiments/quickstart.yaml --steps 2",
            [this] { return run_verify_layout(layout_); }),
        layout_);
  }

  void add_graph() {
    auto& graph = add_group("graph", "A model's mesh");
    graph_.command = words_;
    add_graph_build_options(add(graph, "build", "Build one and write its file",
                                "isobar graph build --grid N320 --hidden 6 --output n320-ico6.h5",
                                [this] { return run_graph_build(graph_); }),
                            graph_);
    add_graph_info_options(add(graph, "info", "What one is, by ranks, and what is amiss with it",
                               "isobar graph info era5.nc --hidden 6 --ranks 4",
                               [this] { return run_graph_info(graph_); }),
                           graph_);
  }

  void add_data() {
    auto& data = add_group("data", "Files to train on");
    inspect_.command = words_;
    add_data_inspect_options(
        add(data, "inspect", "What a netCDF file holds, by variable", "isobar data inspect era5.nc",
            [this] { return run_data_inspect(inspect_); }),
        inspect_);
    verify_.command = words_;
    add_data_verify_options(
        add(data, "verify", "What does not look like weather in files",
            "isobar data verify era5.nc", [this] { return run_data_verify(verify_); }),
        verify_);
  }

  void add_helpers() {
    add(app_, "doctor", "Say what was found on this machine", "mpirun -n 2 isobar doctor", [this] {
      return run_doctor(doctor_json_, words_);
    }).add_option("--json", doctor_json_, "write the rows there; - is standard output");
    add(app_, "completion", "Print a script that completes commands and options in bash",
        "source <(isobar completion)", [this] { return print(bash_completion(app_)); });
    add(app_, "man", "Print the page for man(1)", "isobar man | man -l -",
        [this] { return print(man_page(app_, version())); });
  }

  static int print(const std::string& text) {
    if (rank_or_zero() == 0) std::fputs(text.c_str(), stdout);
    return 0;
  }

  std::vector<std::string> words_;
  CLI::App app_{"Data-parallel training of weather models on LibTorch", "isobar"};
  std::vector<std::pair<CLI::App*, std::function<int()>>> commands_;

  InitArguments init_;
  TrainArguments train_;
  EvaluateArguments evaluate_;
  PlanArguments plan_;
  BenchCollectiveArguments collective_;
  BenchStepArguments step_;
  BenchCompressionArguments compression_;
  VerifyParityArguments parity_;
  VerifyLayoutArguments layout_;
  GraphArguments graph_;
  DataInspectArguments inspect_;
  DataVerifyArguments verify_;
  std::string doctor_json_;
};

}  // namespace
}  // namespace isobar

int main(int argc, char** argv) { return isobar::Program(argc, argv).run(); }
