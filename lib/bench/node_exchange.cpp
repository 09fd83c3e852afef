// SPDX-License-Identifier: Apache-2.0
// Called on every rank. A node is judged by its best exchange: one slow node makes all of its own
// exchanges slow, and only one of everybody else's. CPU tensors go as messages, so that a slow pair
// holds up nobody else; a GPU's go as an all-to-all in which all ranks take part, since NCCL has no
// messages, and which starts sends and receives for none but the pair.
#include "bench/node_exchange.hpp"

#include <isobar/core/stopwatch.hpp>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <limits>

namespace isobar::bench {
namespace {

constexpr int kMostRounds = 6;
constexpr int kTinySwaps = 6;
constexpr int kLongSwaps = 3;
constexpr int64_t kTinyBytes = 8;
constexpr int64_t kProbeBytes = 256 << 10;
/// What a long exchange is to take: starts and ends are little beside it.
constexpr double kLong_s = 0.05;
constexpr int kNobody = -1;

uint8_t mark_of(int rank) { return static_cast<uint8_t>((31 * rank + 7) % 251); }

class Exchange {
 public:
  Exchange(Communicator& comm, at::Device device, int64_t most_bytes)
      : comm_(comm),
        device_(device),
        out_(at::full({most_bytes}, mark_of(comm.rank()),
                      at::TensorOptions(at::kByte).device(device))),
        in_(at::zeros_like(out_)) {}

  /// Adds a round's rate to the report, on every rank.
  void run_round(int partner, ExchangeReport& report) {
    comm_.barrier().synchronize();
    swap(partner, kTinyBytes);  // which brings the connection about
    for (int i = 0; i < kTinySwaps; ++i) note_latency(partner, swap(partner, kTinyBytes), report);
    swap(partner, kProbeBytes);
    const double probe_s = larger_of_both(partner, swap(partner, kProbeBytes));
    const auto wanted = static_cast<int64_t>(static_cast<double>(kProbeBytes) * kLong_s / probe_s);
    const auto bytes = std::clamp(wanted, kProbeBytes, out_.numel());
    double best_s = std::numeric_limits<double>::infinity();
    for (int i = 0; i < kLongSwaps; ++i) best_s = std::min(best_s, swap(partner, bytes));
    report.gbit_s.push_back(partner == kNobody ? 0 : 8e-9 * static_cast<double>(bytes) / best_s);
    if (partner != kNobody && !in_.narrow(0, 0, bytes).eq(mark_of(partner)).all().item<bool>())
      report.problem = "bytes of rank " + std::to_string(partner) + " arrived wrong";
  }

 private:
  double swap(int partner, int64_t bytes) {
    return swap_tensors(partner, out_.narrow(0, 0, bytes), in_.narrow(0, 0, bytes));
  }

  /// Seconds until both have each other's.
  double swap_tensors(int partner, const at::Tensor& out, const at::Tensor& in) {
    const Stopwatch watch;
    if (!device_.is_cpu()) {
      std::vector<int64_t> rows(comm_.size(), 0);
      const auto own = partner == kNobody ? 0 : out.size(0);
      if (partner != kNobody) rows[partner] = own;
      comm_.all_to_all(in.narrow(0, 0, own), out.narrow(0, 0, own), rows, rows).synchronize();
    } else if (partner != kNobody) {
      auto received = comm_.receive(in, partner);
      comm_.send(out, partner).synchronize();
      received.synchronize();
    }
    return std::max(watch.elapsed_s(), 1e-9);
  }

  double larger_of_both(int partner, double seconds) {
    const auto options = at::TensorOptions(at::kDouble).device(device_);
    const auto own = at::full({1}, seconds, options);
    const auto other = at::zeros({1}, options);
    swap_tensors(partner, own, other);
    return std::max(seconds, other.item<double>());
  }

  static void note_latency(int partner, double seconds, ExchangeReport& report) {
    if (partner == kNobody) return;
    report.latency_s = report.latency_s == 0 ? seconds : std::min(report.latency_s, seconds);
  }

  Communicator& comm_;
  at::Device device_;
  at::Tensor out_;
  at::Tensor in_;
};

/// The rank of this one's place on the other node.
int partner_on(const NodeLayout& layout, int rank, int node) {
  if (node == kNobody) return kNobody;
  const auto& own = layout.ranks[layout.node_of[rank]];
  const auto& others = layout.ranks[node];
  const auto place = std::find(own.begin(), own.end(), rank) - own.begin();
  return place < std::ssize(others) ? others[place] : kNobody;
}

/// Of host memory the ranks of a node have so much together.
int64_t longest_message(const NodeLayout& layout, const PreflightOptions& options) {
  std::size_t most_ranks = 1;
  for (const auto& ranks : layout.ranks) most_ranks = std::max(most_ranks, ranks.size());
  const int64_t suits =
      options.device.is_cpu() ? (64 << 20) / static_cast<int64_t>(most_ranks) : 256 << 20;
  return std::max(kProbeBytes, options.most_bytes > 0 ? options.most_bytes : suits);
}

double receive_number(Communicator& comm, int from) {
  auto number = at::empty({1}, at::kDouble);
  comm.receive(number, from).synchronize();
  return number.item<double>();
}

void send_number(Communicator& comm, int to, double number) {
  comm.send(at::full({1}, number, at::kDouble), to).synchronize();
}

/// The other's clock was read between the question and the answer: of several the shortest wait
/// says most.
ClockReading ask_clock(Communicator& comm, int rank, int questions,
                       const std::function<double()>& clock_s) {
  ClockReading best{.error_s = std::numeric_limits<double>::infinity()};
  for (int i = 0; i < questions; ++i) {
    const double asked = clock_s();
    send_number(comm, rank, asked);
    const double theirs = receive_number(comm, rank);
    const double answered = clock_s();
    const double error_s = (answered - asked) / 2;
    if (error_s < best.error_s) best = {theirs - (asked + answered) / 2, error_s};
  }
  return best;
}

}  // namespace

NodeLayout lay_out_nodes(const std::vector<std::string>& node_of_rank) {
  NodeLayout layout;
  for (std::size_t rank = 0; rank < node_of_rank.size(); ++rank) {
    const auto at = std::find(layout.names.begin(), layout.names.end(), node_of_rank[rank]);
    const auto node = static_cast<std::size_t>(at - layout.names.begin());
    if (at == layout.names.end()) {
      layout.names.push_back(node_of_rank[rank]);
      layout.ranks.emplace_back();
    }
    layout.ranks[node].push_back(static_cast<int>(rank));
    layout.node_of.push_back(static_cast<int>(node));
  }
  return layout;
}

std::vector<std::vector<int>> plan_rounds(int nodes, int most_rounds) {
  // The circle method: one node stays in its place while the others go round. Where their number
  // is odd it is nobody's, and who meets it rests.
  const int places = nodes + nodes % 2;
  const int circle = places - 1;
  std::vector<std::vector<int>> rounds(nodes < 2 ? 0 : std::min(circle, most_rounds),
                                       std::vector<int>(nodes, kNobody));
  for (int round = 0; round < static_cast<int>(rounds.size()); ++round) {
    for (int node = 0; node < nodes; ++node) {
      int other = (2 * round - node % circle + 2 * circle) % circle;
      if (node == circle)
        other = round;
      else if (other == node)
        other = circle;
      rounds[round][node] = other < nodes ? other : kNobody;
    }
  }
  return rounds;
}

ExchangeReport exchange_between_nodes(Communicator& comm, const NodeLayout& layout,
                                      const PreflightOptions& options) {
  ExchangeReport report;
  const auto rounds = plan_rounds(static_cast<int>(layout.names.size()), kMostRounds);
  if (rounds.empty()) return report;
  Exchange exchange(comm, options.device, longest_message(layout, options));
  const int node = layout.node_of[comm.rank()];
  for (const auto& round : rounds)
    exchange.run_round(partner_on(layout, comm.rank(), round[node]), report);
  return report;
}

std::vector<ClockReading> read_clocks(Communicator& comm, const NodeLayout& layout,
                                      const std::function<double()>& clock_s) {
  constexpr int kQuestions = 10;
  std::vector<ClockReading> readings(comm.rank() == 0 ? layout.names.size() : 0);
  for (std::size_t node = 1; node < layout.names.size(); ++node) {
    const int other = layout.ranks[node].front();
    if (comm.rank() == 0) readings[node] = ask_clock(comm, other, kQuestions, clock_s);
    for (int i = 0; comm.rank() == other && i < kQuestions; ++i) {
      receive_number(comm, 0);
      send_number(comm, 0, clock_s());
    }
  }
  return readings;
}

}  // namespace isobar::bench
