// SPDX-License-Identifier: Apache-2.0
// What the control connection takes of rank 0 by the number of ranks: the real rank 0, and all
// others on one thread of the same process, which say what real ones say. For each size: the start
// with its three rounds, a quiet run, one in which all ranks call collectives, and the end of one
// rank.
//   control_scale --ranks 64,256,1024,2048,4096 --json rows.json
// With --processes all are real processes, which connect in the same instant.
#include <isobar/core/error.hpp>
#include <isobar/core/option_check.hpp>
#include <isobar/core/report.hpp>
#include <isobar/core/stopwatch.hpp>
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/kernels/control_processes.hpp"
#include "comm/control/control.hpp"
#include "comm/control_members.hpp"

namespace isobar::bench {
namespace {

using namespace std::chrono_literals;

struct ScaleArguments {
  std::vector<int> ranks{64, 256, 1024, 2048, 4096};
  double seconds = 5;
  double calls_per_s = 200;
  bool processes = false;
  std::string json;
  std::vector<std::string> command;
};

void wait_until(const std::function<bool()>& done, const std::string& what) {
  const auto end = std::chrono::steady_clock::now() + 120s;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) throw Error("control_scale: no " + what);
    std::this_thread::sleep_for(1ms);
  }
}

/// Rank 0 with the others.
class World {
 public:
  explicit World(int size) : size_(size), options_(options_of(size)) {
    auto listener = std::make_unique<ControlListener>();
    options_.port = listener->port();
    const Stopwatch watch;
    members_ = std::make_unique<test::ControlMembers>(options_);
    control_ = Control::open(options_, std::move(listener), cause_);
    open_s_ = watch.elapsed_s();
    errors_ += control_->all_equal("node1000") ? 1 : 0;
    errors_ += control_->gather("infiniband").size() == static_cast<size_t>(size) ? 0 : 1;
    const auto last = control_->gather("");
    errors_ += std::count(last.begin(), last.end(), "") == size ? 0 : 1;
    wait_until([&] { return members_->gathered() == size_ - 1; }, "end of the rounds");
    start_s_ = watch.elapsed_s();
    start_bytes_ = members_->bytes_received();
    for (const auto& one : test::communicators_of(0, size)) {
      watches_.push_back(control_->watch(one.id, one.rank, one.size));
    }
  }

  void measure_start(nlohmann::json& row) {
    row["open_s"] = open_s_;
    row["start_s"] = start_s_;
    row["start_bytes"] = start_bytes_;
  }

  /// While nobody calls anything, and what a kill then takes.
  void measure_quiet(nlohmann::json& row, double seconds) {
    std::this_thread::sleep_for(1s);
    row["quiet_core"] = share_of_core(seconds);
    row["quiet_messages_per_s"] = messages_per_s_;
    row["quiet_kill_s"] = kill();
  }

  /// The same while all ranks call collectives.
  void measure_busy(nlohmann::json& row, double seconds, double calls_per_s) {
    members_->call(calls_per_s);
    std::thread calls([&] { call(calls_per_s); });
    std::this_thread::sleep_for(1s);
    row["calls_per_s"] = calls_per_s;
    row["busy_core"] = share_of_core(seconds);
    row["busy_messages_per_s"] = messages_per_s_;
    row["busy_kill_s"] = kill();
    stops_ = true;
    calls.join();
  }

  int errors() const { return errors_ + (members_->wrong().empty() ? 0 : 1); }

 private:
  static ControlOptions options_of(int size) {
    return {.rank = 0,
            .size = size,
            .host = "node1000",
            .addresses = {},
            .port = 0,
            .token = "control_scale",
            .secret = "of this benchmark alone",
            .start_timeout = 60s,
            .silence_limit = 60s};
  }

  double share_of_core(double seconds) {
    const Stopwatch watch;
    const double before_s = control_thread_s();
    const auto sent = members_->messages_sent();
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    const double passed_s = watch.elapsed_s();
    messages_per_s_ = static_cast<double>(members_->messages_sent() - sent) / passed_s;
    errors_ += cause_->failed() ? 1 : 0;
    return (control_thread_s() - before_s) / passed_s;
  }

  /// Rank 0's own calls, as often as the others'.
  void call(double calls_per_s) {
    const Stopwatch watch;
    const double rate = calls_per_s / static_cast<double>(watches_.size());
    for (int64_t count = 0; !stops_; std::this_thread::sleep_for(5ms)) {
      for (; count < test::calls_after(watch.elapsed_s(), rate); ++count) {
        for (auto& one : watches_) one->issued(test::collective_at(count));
      }
    }
  }

  /// Seconds until the last of the others knows the one cause.
  double kill() {
    const int victim = size_ / 2;
    members_->kill(victim);
    wait_until([&] { return members_->judged() >= size_ - 2 && cause_->failed(); }, "verdict");
    const auto verdicts = members_->verdicts();
    const auto wanted = fmt::format("rank {} of {} on node", victim, size_);
    const bool is_right = verdicts.size() == 1 && verdicts.begin()->first.starts_with(wanted) &&
                          verdicts.begin()->second == size_ - 2 &&
                          cause_->message() == verdicts.begin()->first;
    errors_ += is_right ? 0 : 1;
    return members_->last_verdict_s();
  }

  int size_;
  ControlOptions options_;
  std::shared_ptr<FirstCause> cause_ = std::make_shared<FirstCause>();
  std::unique_ptr<test::ControlMembers> members_;
  std::shared_ptr<Control> control_;
  std::vector<std::unique_ptr<Watch>> watches_;
  std::atomic<bool> stops_{false};
  double open_s_ = 0;
  double start_s_ = 0;
  double messages_per_s_ = 0;
  int64_t start_bytes_ = 0;
  int errors_ = 0;
};

nlohmann::json measure(int size, const ScaleArguments& arguments) {
  nlohmann::json row{{"ranks", size}};
  int errors = 0;
  {
    World world(size);
    world.measure_start(row);
    world.measure_quiet(row, arguments.seconds);
    errors += world.errors();
  }
  World world(size);
  world.measure_busy(row, arguments.seconds, arguments.calls_per_s);
  row["error"] = errors + world.errors();
  return row;
}

std::string in_words(const nlohmann::json& row) {
  return fmt::format(
      "{:5} ranks: start {:.3f} s, {:.2f} MB out of rank 0; control thread {:.2f} % of a core "
      "quiet, {:.2f} % with calls; a kill is known to all after {:.3f} s and {:.3f} s",
      row["ranks"].get<int>(), row["start_s"].get<double>(),
      1e-6 * row["start_bytes"].get<double>(), 100 * row["quiet_core"].get<double>(),
      100 * row["busy_core"].get<double>(), row["quiet_kill_s"].get<double>(),
      row["busy_kill_s"].get<double>());
}

std::string processes_in_words(const nlohmann::json& row) {
  if (row["error"] != 0) return fmt::format("{:5} processes", row["ranks"].get<int>());
  const auto costs = [](const nlohmann::json& of) {
    return fmt::format("{} sockets, {:.2f} MB of memory, {:.1f} KB sent, {:.1f} KB received",
                       of["sockets"].get<int>(), 1e-6 * of["private_bytes"].get<double>(),
                       1e-3 * of["bytes_sent"].get<double>(),
                       1e-3 * of["bytes_received"].get<double>());
  };
  return fmt::format(
      "{:5} processes: start {:.3f} s; rank 0: {}, {:.2f} % of a core quiet; others: "
      "{}; a kill is known to all after {:.3f} s",
      row["ranks"].get<int>(), row["start_s"].get<double>(), costs(row["rank_0"]),
      100 * row["quiet_core"].get<double>(), costs(row["others"]), row["kill_s"].get<double>());
}

int run(const ScaleArguments& arguments) {
  auto rows = nlohmann::json::array();
  int errors = 0;
  for (const int size : arguments.ranks) {
    const auto row =
        arguments.processes ? measure_processes(size, arguments.seconds) : measure(size, arguments);
    errors += row["error"].get<int>();
    if (arguments.json != "-") {
      fmt::print("{}; error {}\n", arguments.processes ? processes_in_words(row) : in_words(row),
                 row["error"].get<int>());
      std::fflush(stdout);
    }
    rows.push_back(row);
  }
  write_report(arguments.json, "isobar.bench.control.1", arguments.command, rows);
  return errors == 0 ? 0 : 1;
}

}  // namespace
}  // namespace isobar::bench

int main(int argc, char** argv) {
  isobar::bench::ScaleArguments arguments;
  arguments.command.assign(argv, argv + argc);
  CLI::App app{"What the control connection takes of rank 0 by the number of ranks"};
  app.add_option("--ranks", arguments.ranks, "numbers of ranks")
      ->delimiter(',')
      ->check(CLI::Range(4, 8192));
  app.add_option("--seconds", arguments.seconds, "how long each share of a core is measured")
      ->check(isobar::check_positive);
  app.add_option("--calls", arguments.calls_per_s, "collectives that a rank calls in a second")
      ->check(isobar::check_positive);
  app.add_flag("--processes", arguments.processes,
               "of real processes that connect in the same instant, and call nothing");
  app.add_option("--json", arguments.json, "write the rows there; - is standard output")
      ->check(isobar::check_report_file);
  try {
    app.parse(argc, argv);
    return isobar::bench::run(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "control_scale: error: %s\n", error.what());
    return 1;
  }
}
