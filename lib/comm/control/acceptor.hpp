// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/control/authentication.hpp"
#include "comm/control/connection.hpp"
#include "comm/control/open_files.hpp"

namespace isobar::control {

/// Somebody who knows the job's secret.
struct Newcomer {
  Connection connection;
  Hello hello;
};

/// Accepts connections at rank 0 and finds out which know the job's secret. Those that do not, say
/// something else, or nothing for some seconds, are closed; only so many wait at a time, and of
/// more the oldest goes of whichever address has most. Nothing blocks but wait().
class Acceptor {
 public:
  /// `listener` is borrowed.
  Acceptor(int listener, Credentials credentials);

  /// How many of the job are still to come: so many may wait beside most_strangers().
  void expect(int count) { expected_ = static_cast<size_t>(count); }

  std::vector<Newcomer> newcomers(Time now);

  /// Blocks until somebody comes or says something, or the time is over.
  void wait(Time until) const { wait_readable(poller_.fd(), until); }

  /// Readable when newcomers() has something to do.
  int fd() const noexcept { return poller_.fd(); }

  /// True while no more connections can be accepted, since too many files are open.
  bool lacks_files() const noexcept { return lacks_files_; }

  /// "; 3 connections from 10.0.0.7 did not know the job's secret" and what to do, for the end of a
  /// message; empty where there were none.
  std::string strangers() const;

 private:
  /// A connection that has not said who it is; `response` once it has shown that it knows the
  /// secret.
  struct Waiting {
    Connection connection;
    std::string address;
    Time since;
    Digest challenge{};
    std::optional<Response> response;
  };
  using Entry = std::map<int, Waiting>::iterator;

  /// How the strangers of an address failed.
  struct Strangers {
    int unknown = 0;
    /// Another of the protocol, 0 for none.
    int version = 0;
  };

  void accept_some(Time now);
  void accept_one(Socket socket, Time now);
  bool evict_one();
  void serve(int tag, std::vector<Newcomer>& known);
  bool respond(Waiting& waiting, const Response& response);
  Strangers* strangers_of(const std::string& address);
  void drop(Entry entry);
  void drop_late(Time now);
  void resume(Time now);

  int listener_;
  Credentials credentials_;
  Poller poller_;
  size_t expected_ = 0;
  size_t most_strangers_ = most_strangers();
  /// By the order in which they came.
  std::map<int, Waiting> waiting_;
  std::map<std::string, size_t> waiting_by_address_;
  std::map<std::string, Strangers> strangers_;
  int next_tag_ = 1;
  bool lacks_files_ = false;
  Time resume_at_;
};

}  // namespace isobar::control
