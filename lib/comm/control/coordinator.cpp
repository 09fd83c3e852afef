// SPDX-License-Identifier: Apache-2.0
// Rank 0's control thread: all of it runs there, but for what makes it. It hears every rank, lets
// Diagnosis judge, and answers the store. There is one verdict in a world's life: it goes to every
// connection before it is recorded here, since recording it wakes waiters whose errors may end this
// process and, with it, the only one who could tell the others.
#include "comm/control/coordinator.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "comm/control/admission.hpp"
#include "comm/control/store_server.hpp"

namespace isobar::control {
namespace {

/// The address by which most came; of several the first.
std::string most_used(const std::vector<Connection>& connections) {
  std::map<std::string, int> uses;
  std::string best;
  for (const auto& connection : connections) {
    if (connection.is_open()) ++uses[local_address(connection.socket())];
  }
  for (const auto& [address, count] : uses) {
    if (best.empty() || count > uses[best]) best = address;
  }
  return best;
}

/// Of what the poller tells: who comes now, and by any other number a rank.
constexpr int kNewcomers = 0;
/// How often those are looked at who wait without a word.
constexpr Milliseconds kWaitersPace{500};

class Coordinator final : public Loop {
 public:
  Coordinator(const ControlOptions& options, std::shared_ptr<FirstCause> cause, Joined joined,
              Acceptor acceptor, Hello own)
      : Loop(options, std::move(cause)),
        own_(std::move(own)),
        diagnosis_(std::move(joined.processes), limits(), now()),
        connections_(std::move(joined.connections)),
        acceptor_(std::move(acceptor)) {
    for (size_t r = 1; r < connections_.size(); ++r) {
      if (connections_[r].is_open())
        poller().add(connections_[r].socket().fd(), static_cast<int>(r));
    }
    acceptor_.expect(0);
    poller().add(acceptor_.fd(), kNewcomers);
  }

 private:
  void serve(int tag, Time now) override {
    if (tag == kNewcomers) return turn_away(now);
    auto& connection = connections_[static_cast<size_t>(tag)];
    for (const auto& message : connection.receive()) {
      if (serve_store(tag, message)) continue;
      diagnosis_.received(tag, message, now);
      // It waits for nothing more but this end's.
      if (std::holds_alternative<Goodbye>(message)) connection.close();
    }
    // After what came by it: a rank that said goodbye before it closed has left, and is not gone.
    if (!connection.is_open()) diagnosis_.closed(tag, now);
  }

  void tick(Time now) override {
    for (const auto& message : reports().take()) {
      if (!serve_store(0, message)) diagnosis_.received(0, message, now);
    }
    flush_the_rest(now);
    if (now >= next_look_) turn_away(now);
    if (cause().failed()) announce(cause().message());
    if (auto verdict = has_announced_ ? std::nullopt : diagnosis_.verdict(now)) announce(*verdict);
    if (diagnosis_.take_probe() && !has_announced_) broadcast(Probe{});
    if (auto gathered = diagnosis_.take_gathered()) {
      broadcast(*gathered);
      deliver(std::move(*gathered));
    }
    if (now < next_sign_) return;
    next_sign_ = now + limits().interval();
    broadcast(Alive{});
  }

  Time next_turn(Time now) const override {
    // What the kernel has not taken is tried again soon; no event tells that it could be.
    const auto next = unsent_.empty() ? next_sign_ : now + Milliseconds(5);
    return has_announced_ ? next : std::min(next, diagnosis_.next_decision());
  }

  void leave(const std::string& reason, Time now) override {
    // The last judgement: nobody judges after this rank, and who waits would hear no cause at all.
    diagnosis_.received(0, Goodbye{.reason = reason, .progress = {}}, now);
    if (auto verdict = has_announced_ ? std::nullopt : diagnosis_.last_verdict(now)) {
      announce(*verdict);
    }
    if (!has_announced_) {
      broadcast(Goodbye{.reason = shortened(reason), .progress = diagnosis_.progress_of(0)});
    }
    std::vector<Connection*> connections;
    for (auto& connection : connections_) connections.push_back(&connection);
    close_politely(connections);
  }

  bool serve_store(int rank, const ControlMessage& message) {
    std::vector<StoreServer::Answer> answers;
    const bool served = store_.take(rank, message, answers);
    for (auto& [to, found] : answers) {
      to == 0 ? deliver(std::move(found)) : send(to, encode(found));
    }
    return served;
  }

  /// Once. All others hear it before this process can end of it.
  void announce(const std::string& text) {
    if (std::exchange(has_announced_, true)) return;
    broadcast(Verdict{shortened(text)});
    cause().record(text);
  }

  void broadcast(const ControlMessage& message) {
    const auto frame = encode(message);
    for (int rank = 1; rank < static_cast<int>(connections_.size()); ++rank) send(rank, frame);
  }

  void send(int rank, const std::string& frame) {
    auto& connection = connections_[static_cast<size_t>(rank)];
    if (!connection.is_open()) return;
    connection.send_frame(frame);
    if (connection.has_output() || !connection.is_open()) unsent_.insert(rank);
  }

  /// Looks at those alone that did not take all at once: of thousands of ranks few.
  void flush_the_rest(Time now) {
    std::erase_if(unsent_, [&](int rank) {
      auto& connection = connections_[static_cast<size_t>(rank)];
      connection.flush();
      if (!connection.is_open()) diagnosis_.closed(rank, now);
      return !connection.has_output();
    });
  }

  /// The world is complete; whoever comes now was started by mistake.
  void turn_away(Time now) {
    next_look_ = now + kWaitersPace;
    for (auto& [connection, hello] : acceptor_.newcomers(now)) {
      connection.send(refusal_of(hello));
      connection.finish();
      turned_away_ = std::move(connection);
    }
  }

  Refused refusal_of(const Hello& hello) const {
    const auto& processes = diagnosis_.processes();
    const auto where = to_string(hello.process);
    if (auto text = other_job(hello, own_); !text.empty()) return {.is_usage = 1, .text = text};
    if (hello.size != processes.size() || hello.rank < 0 || hello.rank >= processes.size()) {
      return {.is_usage = 0,
              .text = detail::join("control connection: rank ", hello.rank, " of ", hello.size,
                                   " on ", where, " came late: ", processes.size(),
                                   " ranks go on without it; end it, or restart the job")};
    }
    return {.is_usage = 1,
            .text = "control connection: " + processes.name(hello.rank) +
                    " is there already, and another came from " + where};
  }

  Hello own_;
  Diagnosis diagnosis_;
  StoreServer store_;
  std::vector<Connection> connections_;
  /// Ranks whose connections have something left to send, or that sending has closed.
  std::set<int> unsent_;
  Acceptor acceptor_;
  /// Kept until the next, so that the refusal arrives.
  Connection turned_away_{Socket(), Hears::member};
  Time next_sign_;
  /// When who waits without a word is looked at.
  Time next_look_;
  bool has_announced_ = false;
};

}  // namespace

std::unique_ptr<Loop> make_coordinator(ControlOptions& options, int listener,
                                       std::shared_ptr<FirstCause> cause,
                                       std::string& own_address) {
  const auto shortage = raise_open_files(options.rank, options.size);
  const auto own = make_hello(options);
  Acceptor acceptor(listener, credentials_of(options, port_of(listener)));
  auto joined = admit_all(options, own, acceptor, shortage);
  options.size = joined.processes.size();
  own_address = most_used(joined.connections);
  return std::make_unique<Coordinator>(options, std::move(cause), std::move(joined),
                                       std::move(acceptor), own);
}

}  // namespace isobar::control
