// SPDX-License-Identifier: Apache-2.0
// A trace is read back and replayed by the rules of the LogGP model, which here know no more of
// isobar than the text.
#include <isobar/projection/goal_trace.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "projection/expect_refusal.hpp"

namespace isobar::test::goal_trace_test {
namespace {

constexpr double kLatency = 5'000;  // ns
constexpr double kByte = 0.08;      // ns

struct Operation {
  std::string kind;
  std::int64_t amount = 0;
  int peer = -1, tag = -1;
  std::vector<std::string> needs = {};
  double end = -1;
};

struct Trace {
  int ranks = 0;
  std::vector<std::map<std::string, Operation>> programs;
  std::vector<std::vector<std::string>> order;  ///< of labels, by rank
};

Trace parse(const std::string& text) {
  Trace trace;
  std::istringstream in(text);
  std::string word, name, colon, size;
  in >> word >> trace.ranks;
  EXPECT_EQ(word, "num_ranks");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    words >> name >> word;
    if (line.empty() || line == "}") continue;
    if (name == "rank") {
      trace.programs.emplace_back();
      trace.order.emplace_back();
      continue;
    }
    auto& program = trace.programs.back();
    if (word == "requires") {
      words >> size;
      program.at(name).needs.push_back(size);
      continue;
    }
    name.pop_back();
    Operation op{.kind = word};
    words >> size;
    op.amount = std::stoll(size);
    if (word != "calc") words >> size >> op.peer >> size >> op.tag;
    program[name] = op;
    trace.order.back().push_back(name);
  }
  return trace;
}

/// When the last rank ends, in seconds: passes over all operations until none is left.
double replay(Trace& trace) {
  std::map<std::tuple<int, int, int>, std::vector<double>> arrivals;
  std::map<std::tuple<int, int, int>, std::size_t> taken;
  std::vector<double> link_free(trace.ranks, 0), cpu_free(trace.ranks, 0);
  double last = 0;
  for (bool goes_on = true; goes_on;) {
    goes_on = false;
    for (int rank = 0; rank < trace.ranks; ++rank) {
      for (const auto& label : trace.order[rank]) {
        auto& op = trace.programs[rank].at(label);
        if (op.end >= 0) continue;
        double start = 0;
        bool ready = true;
        for (const auto& need : op.needs) {
          const double end = trace.programs[rank].at(need).end;
          ready = ready && end >= 0;
          start = std::max(start, end);
        }
        if (!ready) continue;
        if (op.kind == "calc") {
          op.end = cpu_free[rank] = std::max(start, cpu_free[rank]) + op.amount;
        } else if (op.kind == "send") {
          link_free[rank] = std::max(start, link_free[rank]) + kByte * op.amount;
          arrivals[{rank, op.peer, op.tag}].push_back(link_free[rank] + kLatency);
          op.end = start;
        } else {
          const std::tuple<int, int, int> from{op.peer, rank, op.tag};
          if (taken[from] >= arrivals[from].size()) continue;
          op.end = std::max(start, arrivals[from][taken[from]++]);
        }
        last = std::max(last, op.end);
        goes_on = true;
      }
    }
  }
  for (const auto& program : trace.programs) {
    for (const auto& [label, op] : program) EXPECT_GE(op.end, 0) << label << " never ends";
  }
  return last / 1e9;
}

ProjectionInput input_of(int buckets, int stages) {
  ProjectionInput input;
  input.compute = {.forward_s = 0.01, .backward_s = 0.02, .optimizer_s = 0.001};
  for (int b = 1; b <= buckets; ++b) {
    StagedBucket bucket{
        .ready_s = 0.02 * b / buckets, .stages = {}, .complete_s = stages > 1 ? 0.0005 : 0};
    for (int s = 0; s < stages; ++s) {
      bucket.stages.push_back({.compute_s = stages > 1 ? 0.0003 : 0, .bytes = 6'000'000});
    }
    input.buckets.push_back(bucket);
  }
  return input;
}

/// The same by the library's own simulation of a ring with these messages.
double simulated(const ProjectionInput& input, int ranks) {
  const auto ring_s = [&](std::int64_t bytes) {
    const double part = static_cast<double>((bytes + ranks - 1) / ranks);
    return 2 * (ranks - 1) * (kLatency + kByte * part) / 1e9;
  };
  return simulate_staged_step(input.compute, input.buckets, {.seconds = ring_s}).step_s;
}

std::string trace_of(const ProjectionInput& input, int nodes) {
  std::ostringstream out;
  write_goal_trace(out, input, nodes);
  return out.str();
}

TEST(GoalTrace, ReplayedTakesAsLongAsTheSimulatedStep) {
  for (const int ranks : {2, 3, 8}) {
    for (const int buckets : {1, 5}) {
      const auto input = input_of(buckets, 1);
      auto trace = parse(trace_of(input, ranks));
      ASSERT_EQ(trace.ranks, ranks);
      EXPECT_NEAR(replay(trace), simulated(input, ranks), 1e-6) << ranks << " ranks";
    }
  }
}

TEST(GoalTrace, EachRankSendsWhatARingMakesItSend) {
  const auto trace = parse(trace_of(input_of(3, 1), 4));
  for (const auto& program : trace.programs) {
    std::int64_t sent = 0, received = 0;
    for (const auto& [label, op] : program) {
      sent += op.kind == "send" ? op.amount : 0;
      received += op.kind == "recv" ? op.amount : 0;
    }
    EXPECT_EQ(sent, 3 * 2 * 3 * 1'500'000);
    EXPECT_EQ(received, sent);
  }
}

TEST(GoalTrace, StagesOfACompressorComeToTheirEnd) {
  const auto input = input_of(4, 2);
  auto trace = parse(trace_of(input, 4));
  const double replayed_s = replay(trace);
  // The library may begin a second stage during the backward pass, a trace after it.
  EXPECT_GE(replayed_s, simulated(input, 4) - 1e-6);
  EXPECT_LT(replayed_s, 1.3 * simulated(input, 4));
}

TEST(GoalTrace, RefusesOneRankAndTracesThatNobodyCouldRead) {
  std::ostringstream out;
  expect_refusal([&] { write_goal_trace(out, input_of(1, 1), 1); }, {"two ranks", "got 1"});
  expect_refusal([&] { write_goal_trace(out, input_of(30, 1), 2048); }, {"larger buckets"});
}

}  // namespace
}  // namespace isobar::test::goal_trace_test
