// SPDX-License-Identifier: Apache-2.0
#include "comm/control_members.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "comm/control/join.hpp"

namespace isobar::test {

using namespace control;

namespace {

constexpr int kRounds = 3;
constexpr int kModelRanks = 4;

std::string node_of(int rank, int ranks_per_node) {
  return detail::join("node", 1000 + rank / ranks_per_node, " 0123456789abcdef0123456789abcdef");
}

}  // namespace

/// The world, and where its size allows the four of a grid of model and data.
std::vector<Watching> communicators_of(int rank, int size) {
  std::vector<Watching> all{{0, rank, size}};
  if (size % kModelRanks != 0) return all;
  const int model = rank / kModelRanks;
  const int data = rank % kModelRanks;
  all.push_back({uint64_t(1'000'000 + model), data, kModelRanks});
  all.push_back({uint64_t(2'000'000 + data), model, size / kModelRanks});
  all.push_back({uint64_t(3'000'000 + model), data, kModelRanks});
  all.push_back({uint64_t(4'000'000 + model), data, kModelRanks});
  return all;
}

int64_t calls_after(double seconds, double calls_per_s) {
  return static_cast<int64_t>(seconds * calls_per_s);
}

Operation collective_at(int64_t sequence) {
  static const auto values = at::empty({1024});
  Operation operation;
  operation.kind = OperationKind::allreduce;
  operation.output = values;
  operation.sequence = sequence;
  operation.mark.bucket = static_cast<int32_t>(sequence % 8);
  operation.mark.step = sequence / 8;
  return operation;
}

Call call_at(int64_t sequence) {
  static const auto first = call_of(collective_at(0));
  auto call = first;
  call.mark.bucket = static_cast<int32_t>(sequence % 8);
  call.mark.step = sequence / 8;
  return call;
}

struct ControlMembers::Member {
  int rank = 0;
  Connection connection{Socket(), Hears::unproven};
  std::optional<Introduction> introduction;
  bool is_gone = false;
  bool works = false;
  int64_t count = 0;
  Time next_report;
  Time next_sign;
};

ControlMembers::ControlMembers(const ControlOptions& options, int ranks_per_node)
    : options_(options),
      ranks_per_node_(ranks_per_node),
      limits_{
          .silence = options.silence_limit, .gather = options.start_timeout, .size = options.size} {
  raise_open_files(0, 2 * options.size);  // both ends are this process's
  for (int rank = 0; rank < options.size; ++rank) {
    members_.push_back(std::make_unique<Member>());
    members_.back()->rank = rank;
  }
  thread_ = std::thread([this] { run(); });
}

ControlMembers::~ControlMembers() {
  stops_ = true;
  poller_.wake();
  thread_.join();
}

void ControlMembers::kill(int rank) {
  to_kill_ = rank;
  poller_.wake();
}

void ControlMembers::call(double calls_per_s) {
  calls_since_ = Clock::now();
  calls_per_s_ = calls_per_s;
}

std::map<std::string, int> ControlMembers::verdicts() const {
  const std::lock_guard lock(mutex_);
  return verdicts_;
}

double ControlMembers::last_verdict_s() const {
  const std::lock_guard lock(mutex_);
  return std::chrono::duration<double>(last_verdict_ - killed_).count();
}

std::string ControlMembers::wrong() const {
  const std::lock_guard lock(mutex_);
  return wrong_;
}

void ControlMembers::run() {
  for (size_t rank = 1; rank < members_.size(); ++rank) connect(*members_[rank]);
  while (!stops_) {
    for (const int tag : poller_.wait(Milliseconds(2))) {
      serve(*members_[static_cast<size_t>(tag)]);
    }
    if (const int rank = to_kill_.exchange(0); rank > 0) {
      {
        const std::lock_guard lock(mutex_);
        killed_ = Clock::now();
      }
      close(*members_[static_cast<size_t>(rank)]);
    }
    const auto now = Clock::now();
    for (auto& member : members_) {
      if (!member->works || member->is_gone) continue;
      member->connection.flush();
      if (now >= member->next_report) report(*member, now >= member->next_sign);
    }
  }
}

void ControlMembers::connect(Member& member) {
  std::string error;
  auto own = options_;
  own.rank = member.rank;
  own.host = node_of(member.rank, ranks_per_node_).substr(0, 8);
  member.connection = Connection(
      connect_to("127.0.0.1", options_.port, Clock::now() + std::chrono::seconds(5), error),
      Hears::unproven);
  if (!member.connection.is_open()) return note_wrong(error);
  member.introduction.emplace(credentials_of(own, own.port), make_hello(own));
  poller_.add(member.connection.socket().fd(), member.rank);
}

void ControlMembers::serve(Member& member) {
  if (member.is_gone) return;
  for (const auto& message : member.connection.receive()) {
    bytes_received_ += static_cast<int64_t>(encode(message).size());
    if (member.introduction->state() == Introduction::State::waits) {
      member.introduction->take(message, member.connection);
    } else {
      take(member, message);
    }
    if (member.is_gone) return;
  }
  if (member.connection.is_open()) return;
  if (!member.works && judged_ == 0) return connect(member);  // evicted in the crowd
  close(member);
}

void ControlMembers::take(Member& member, const ControlMessage& message) {
  if (const auto* welcome = std::get_if<Welcome>(&message)) {
    ++welcomed_;
    if (welcome->rank != member.rank || welcome->size != options_.size) note_wrong("a welcome");
    contribute(member, 0);
  } else if (const auto* gathered = std::get_if<Gathered>(&message)) {
    take_round(member, *gathered);
  } else if (std::holds_alternative<Probe>(message)) {
    report(member, true);
  } else if (const auto* verdict = std::get_if<Verdict>(&message)) {
    {
      const std::lock_guard lock(mutex_);
      ++verdicts_[verdict->text];
      last_verdict_ = Clock::now();
    }
    ++judged_;
    close(member);
  } else if (const auto* refused = std::get_if<Refused>(&message)) {
    note_wrong(refused->text);
  }
}

/// The rounds of rendezvous.cpp: the nodes compared, the fabrics, and problems, of which there are
/// none.
void ControlMembers::contribute(Member& member, int round) {
  const std::string texts[kRounds] = {node_of(member.rank, ranks_per_node_), "infiniband", ""};
  const auto is_compared = static_cast<uint8_t>(round == 0 ? 1 : 0);
  send(member, Contribution{.round = round, .is_compared = is_compared, .text = texts[round]});
}

void ControlMembers::take_round(Member& member, const Gathered& gathered) {
  if (gathered.round == 0 && gathered.is_equal && options_.size > ranks_per_node_) {
    note_wrong("nodes that are equal");
  }
  uint64_t count = 0;
  for (const auto& run : gathered.runs) count += run.count;
  if (gathered.round > 0 && count != members_.size()) note_wrong("a round of few texts");
  if (gathered.round + 1 < kRounds) return contribute(member, gathered.round + 1);
  ++gathered_;
  member.works = true;
  const auto now = Clock::now();
  // As far apart as the ranks of a real job are.
  const auto shift = limits_.pace() * ((member.rank * 7919) % options_.size) / options_.size;
  member.next_report = now + shift;
  member.next_sign = now + limits_.interval();
  send(member, Report{communicators_of(member.rank, options_.size), {}, {}});
}

void ControlMembers::report(Member& member, bool must_sign) {
  const auto now = Clock::now();
  member.next_report = now + limits_.pace();
  const auto all = communicators_of(member.rank, options_.size);
  const double rate = calls_per_s_ / static_cast<double>(all.size());
  const std::chrono::duration<double> seconds = now - (rate > 0 ? calls_since_ : now);
  const auto due = rate > 0 ? calls_after(seconds.count(), rate) : member.count;
  Report report;
  for (const auto& one : all) {
    if (due == member.count) break;
    report.calls.push_back({.id = one.id, .first = member.count, .calls = {}});
    for (auto i = member.count; i < due; ++i) {
      report.calls.back().calls.push_back(call_at(i));
    }
  }
  member.count = due;
  if (report.calls.empty() && !must_sign) return;
  member.next_sign = now + limits_.interval();
  report.calls.empty() ? send(member, Alive{}) : send(member, report);
}

void ControlMembers::close(Member& member) {
  member.is_gone = true;
  member.connection.close();
}

void ControlMembers::note_wrong(const std::string& what) {
  const std::lock_guard lock(mutex_);
  if (wrong_.empty()) wrong_ = what;
}

void ControlMembers::send(Member& member, const ControlMessage& message) {
  member.connection.send(message);
  ++messages_sent_;
}

}  // namespace isobar::test
