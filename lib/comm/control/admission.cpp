// SPDX-License-Identifier: Apache-2.0
// Rank 0's side of the start, on the thread that makes the world and before there is a control
// thread: nobody else reads these connections. A rank counts as there only while its connection is
// open. A mistake (two of one rank, another size, another job) is told to all who are there and to
// all who come within `grace` of the last, so that each process of the job ends with the same
// words, and not with a connection that was refused.
#include "comm/control/admission.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/log.hpp>

#include <algorithm>
#include <optional>
#include <utility>

#include "comm/backend/operation_facts.hpp"
#include "comm/backend/rank_list.hpp"
#include "comm/control/duplicate_rank_check.hpp"

namespace isobar::control {
namespace {

constexpr Milliseconds kTurn{5};
/// How often those who came are looked at for having left again.
constexpr Milliseconds kRound{100};

class Admission {
 public:
  Admission(const ControlOptions& options, const Hello& own, Acceptor& acceptor,
            std::optional<std::string> mistake)
      : options_(options),
        acceptor_(acceptor),
        duplicate_check_(options, own),
        members_(static_cast<size_t>(options.size)),
        mistake_(std::move(mistake)) {
    members_[0] = Newcomer{Connection(Socket(), Hears::member), own};
  }

  Joined run() {
    const auto deadline = Clock::now() + options_.start_timeout;
    last_came_ = Clock::now();
    next_notice_ = last_came_ + options_.notice;
    // After a mistake too: whoever comes late is told of it, until nobody has come for `grace`.
    while (!(is_complete() && !mistake_)) {
      const auto now = Clock::now();
      if (now >= deadline) refuse_latecomers();
      if (acceptor_.lacks_files()) refuse_for_want_of_files();
      if (now >= next_notice_) say_who_is_missing(now, deadline);
      if (mistake_ && now - last_came_ >= options_.grace) throw UsageError(*mistake_);
      acceptor_.expect(options_.size - come_);
      for (auto& newcomer : acceptor_.newcomers(now)) {
        last_came_ = now;
        admit(std::move(newcomer));
      }
      notice_leavers(now);
      check_for_duplicate(now);
      acceptor_.wait(now + kTurn);
    }
    refuse_a_minority();
    return welcome();
  }

 private:
  void admit(Newcomer newcomer) {
    const auto& own = members_[0]->hello;
    if (newcomer.hello.instance == own.instance) return;  // this one, by a detour
    if (auto text = other_job(newcomer.hello, own); !text.empty()) {
      newcomer.connection.send(Refused{.is_usage = 1, .text = std::move(text)});
      newcomer.connection.finish();
      turned_away_ = std::move(newcomer.connection);
      return;
    }
    if (!mistake_) mistake_ = mistake_of(newcomer.hello);
    if (!mistake_) {
      auto& member = members_[static_cast<size_t>(newcomer.hello.rank)];
      if (!member) ++come_;
      member = std::move(newcomer);
      return;
    }
    auto connections = connections_of_members();
    connections.push_back(&newcomer.connection);
    refuse(connections, {.is_usage = 1, .text = *mistake_});
  }

  /// Another rank 0, at the address where all look for one, refuses this one and all its members.
  void check_for_duplicate(Time now) {
    auto refusal = mistake_ ? std::nullopt : duplicate_check_.poll(now);
    if (!refusal) return;
    mistake_ = std::move(refusal);
    refuse(connections_of_members(), {.is_usage = 1, .text = *mistake_});
  }

  std::vector<Connection*> connections_of_members() {
    std::vector<Connection*> connections;
    for (auto& member : members_) {
      if (member) connections.push_back(&member->connection);
    }
    return connections;
  }

  std::optional<std::string> mistake_of(const Hello& hello) const {
    const auto where = to_string(hello.process);
    const auto& own = members_[0]->hello.process;
    if (hello.size != options_.size || hello.rank < 0 || hello.rank >= options_.size) {
      return detail::join("control connection: ", where, " was started as rank ", hello.rank,
                          " of ", hello.size, ", ", to_string(own), " as rank 0 of ", options_.size,
                          "; start all ranks by one launch");
    }
    const auto& there = members_[static_cast<size_t>(hello.rank)];
    if (!there || there->hello.instance == hello.instance) return std::nullopt;
    return detail::join("control connection: rank ", hello.rank, " of ", hello.size,
                        " is there twice, on ", to_string(there->hello.process), " and on ", where,
                        "; give every process a rank of its own");
  }

  /// One that waits has nothing to say: whatever comes is its end.
  void notice_leavers(Time now) {
    if (now < next_round_) return;
    next_round_ = now + kRound;
    for (size_t r = 1; r < members_.size(); ++r) {
      if (!members_[r]) continue;
      members_[r]->connection.receive();
      if (members_[r]->connection.is_open() || mistake_) continue;
      members_[r].reset();
      --come_;
    }
  }

  bool is_complete() const {
    const auto& regroup = options_.regroup;
    if (come_ == options_.size || (regroup && come_ == regroup->expected)) return true;
    return regroup && regroup->expected == 0 && Clock::now() - last_came_ >= regroup->settle;
  }

  static void refuse(const std::vector<Connection*>& connections, const Refused& refusal) {
    for (auto* connection : connections) connection->send(refusal);
    close_politely(connections);
  }

  std::vector<int> missing_ranks() const {
    std::vector<int> missing;
    for (size_t r = 0; r < members_.size(); ++r) {
      if (!members_[r]) missing.push_back(static_cast<int>(r));
    }
    return missing;
  }

  /// Whoever waits would otherwise see nothing until the limit.
  void say_who_is_missing(Time now, Time deadline) {
    next_notice_ = now + options_.notice;
    const auto left = std::chrono::duration_cast<std::chrono::seconds>(deadline - now);
    Logger({.size = options_.size})
        .info("{} of {} ranks have come, waiting for {}, {} s more at most{}", come_, options_.size,
              rank_list(missing_ranks(), kMostNamed), left.count(), acceptor_.strangers());
  }

  [[noreturn]] void refuse_latecomers() {
    if (mistake_) throw UsageError(*mistake_);
    const auto missing = missing_ranks();
    const auto text = detail::join(
        "control connection on rank 0 of ", options_.size, ": ", rank_list(missing, kMostNamed),
        missing.size() == 1 ? " has" : " have", " not come in ", in_words(options_.start_timeout),
        "; check that they run and can reach ", options_.host, acceptor_.strangers());
    refuse(connections_of_members(), {.is_usage = 0, .text = text});
    throw CommError(text);
  }

  [[noreturn]] void refuse_for_want_of_files() {
    const auto text = detail::join("control connection on rank 0 of ", options_.size,
                                   ": too many open files after ", come_ - 1,
                                   " ranks; raise the limit: ulimit -n");
    refuse(connections_of_members(), {.is_usage = 0, .text = text});
    throw CommError(text);
  }

  /// Of a world that a broken network has cut in two, the other part may go on as well. It cannot
  /// where this one has half of the ranks, since rank 0 is here.
  void refuse_a_minority() {
    const auto& regroup = options_.regroup;
    const int lost = regroup && regroup->lost_size > 0 ? regroup->lost_size : options_.size;
    if (!regroup || 2 * come_ >= lost) return;
    const auto text = detail::join(
        "survivors' rendezvous on rank 0 of ", options_.size, ": ", come_, " of ", lost,
        " ranks of the lost world came, wanted half of them at least, since the others may be "
        "alive beyond a broken network; restart the job");
    refuse(connections_of_members(), {.is_usage = 0, .text = text});
    throw CommError(text);
  }

  /// Those who have not come to a regroup stay behind.
  Joined welcome() {
    std::erase_if(members_, [](const auto& member) { return !member.has_value(); });
    std::vector<Process> processes;
    for (const auto& member : members_) processes.push_back(member->hello.process);
    Welcome message{.rank = 0,
                    .size = static_cast<int32_t>(members_.size()),
                    .process = processes.front(),
                    .session = options_.session};
    Joined joined{.processes = ProcessTable(std::move(processes)),
                  .connections = {},
                  .session = options_.session};
    for (auto& member : members_) {
      member->connection.send(message);
      ++message.rank;
      joined.connections.push_back(std::move(member->connection));
    }
    return joined;
  }

  const ControlOptions& options_;
  Acceptor& acceptor_;
  DuplicateRankCheck duplicate_check_;
  std::vector<std::optional<Newcomer>> members_;
  /// Kept until the next, so that the refusal arrives.
  Connection turned_away_{Socket(), Hears::member};
  /// Ranks that are there, this one among them.
  int come_ = 1;
  std::optional<std::string> mistake_;
  Time next_round_;
  Time next_notice_;
  Time last_came_;
};

}  // namespace

Joined admit_all(const ControlOptions& options, const Hello& own, Acceptor& acceptor,
                 const std::optional<std::string>& mistake) {
  return Admission(options, own, acceptor, mistake).run();
}

}  // namespace isobar::control
