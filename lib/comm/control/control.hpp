// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/backend/first_cause.hpp"
#include "comm/backend/key_value.hpp"
#include "comm/backend/watch.hpp"
#include "comm/control/socket.hpp"

namespace isobar {

/// Rank 0's listening socket, where the control connections of the others arrive.
class ControlListener {
 public:
  /// Listens on `port` of all addresses, or on one that the system chooses for 0.
  /// Throws CommError with address and port where that is taken.
  explicit ControlListener(int port = 0);
  ControlListener(const ControlListener&) = delete;
  ControlListener& operator=(const ControlListener&) = delete;

  int port() const noexcept { return port_; }

 private:
  friend class Control;
  control::Socket socket_;
  int port_ = 0;
};

/// A world of those that are left of one that failed.
struct Regroup {
  /// How many ranks the world had that failed; 0 for the options' size. Fewer than half of them do
  /// not go on: the others may be alive beyond a network that broke in two. Half do, since rank 0
  /// is among them.
  int lost_size = 0;
  /// How many, rank 0 among them; 0 for as many as come.
  int expected = 0;
  /// As many as come are those that did until nobody came for so long.
  std::chrono::milliseconds settle{10'000};
};

struct ControlOptions {
  int rank = 0;
  int size = 1;
  /// This node's name, for messages.
  std::string host;
  /// Rank 0's numeric addresses and its port. On rank 0, where somebody else may be who
  /// calls himself rank 0; empty where nobody can.
  std::vector<std::string> addresses;
  int port = 0;
  /// Where rank 0 listens when that port is taken; all are tried in turn.
  std::vector<int> other_ports = {};
  /// The same on all ranks of one job and on no other job's: a rank 0 with another
  /// token is not ours.
  std::string token;
  /// What the ranks know and nobody else, such as user_secret(): with the token it makes the key by
  /// which they know each other. It never leaves the process.
  std::string secret = {};
  /// What tells jobs apart that chose the same port, for people to read: whoever comes with
  /// another one is told both. Empty for a job that its launcher has named in the token.
  std::string job = {};
  /// How long all ranks may take to come.
  std::chrono::milliseconds start_timeout{60'000};
  /// How long after the last newcomer rank 0 stays to tell those who come what mistake was found:
  /// the processes of a job start within this of each other, mostly.
  std::chrono::milliseconds grace{2'000};
  /// A start that takes longer tells for whom rank 0 waits, and again so often.
  std::chrono::milliseconds notice{20'000};
  /// How long a rank may say nothing before it counts as lost.
  std::chrono::milliseconds silence_limit{60'000};
  /// Then `rank` and `size` are those of the failed world, and the ranks of the new one
  /// follow each other in that order.
  std::optional<Regroup> regroup = {};
  /// Comes of open(): a text of this world alone, the same on all its ranks.
  std::string session = {};
};

/// Who compares the rows that ranks send each other in an all_to_all with those that are expected:
/// the transport, before it writes any, or rank 0 when all have reported the call, since NCCL
/// hangs or writes what it should not.
enum class RowCounts { by_transport, by_control };

/// The control connection: every rank's connection to rank 0, beside the data.
///
/// It carries heartbeats, what each rank has issued, and the first cause of a
/// failure. Rank 0 decides: it sees who is gone (its connection closed), who is
/// silent, who issued something else and who has not come, and tells all ranks one
/// first cause within seconds, which `cause` records. Without rank 0 every rank
/// says the same of rank 0.
class Control : public std::enable_shared_from_this<Control> {
 public:
  /// Collective; blocks until all ranks are there. Throws CommError naming the
  /// ranks that have not come, and UsageError for two processes of one rank or
  /// sizes that differ, naming both hosts. `listener` is rank 0's, null elsewhere.
  static std::shared_ptr<Control> open(const ControlOptions& options,
                                       std::unique_ptr<ControlListener> listener,
                                       std::shared_ptr<FirstCause> cause);

  /// Who listens at the options' port of this machine, which a rank 0 found taken? Throws
  /// UsageError where it is a rank 0 too, of this job or of another, in words that name both.
  /// Returns where it is anything else. Blocks for some seconds at most.
  static void ask_who_is_there(const ControlOptions& options);

  /// Says goodbye, unless the world has failed: afterwards a closed connection is
  /// no failure. Does not wait for the others. In a forked child nothing happens.
  ~Control();

  /// Every rank's text, in the order of ranks. Collective; blocks; for set-up.
  /// What all have in common goes over the network once a rank, whatever their number.
  std::vector<std::string> gather(const std::string& text);

  /// Whether all ranks' texts are the same. Collective; blocks; for what every rank says otherwise
  /// in a large world, where gather() would send all texts to all.
  bool all_equal(const std::string& text);

  /// Where ranks leave each other what they need to connect, at rank 0. Keeps this alive.
  std::shared_ptr<KeyValueStore> store();

  /// This rank's own address on its control connection, which the others' network
  /// can reach; on rank 0 the one that most ranks came by.
  std::string own_address() const;

  /// As in the options, unless this process came to a regroup.
  int rank() const noexcept;
  int size() const noexcept;

  /// A text of this world alone, the same on all its ranks.
  const std::string& session() const noexcept;

  /// Watches the communicator `id` of `size` ranks, in which this process is `rank`.
  /// Ids are equal on the members and unique in the world at any time. `rows` holds for all that
  /// are split from it too.
  std::unique_ptr<Watch> watch(uint64_t id, int rank, int size,
                               RowCounts rows = RowCounts::by_transport);

 private:
  struct Impl;
  explicit Control(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace isobar
