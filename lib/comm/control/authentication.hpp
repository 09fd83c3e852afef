// SPDX-License-Identifier: Apache-2.0
// How two processes show each other that they know one secret, which never travels: each sends a
// random challenge, and answers the other's with a keyed hash of both challenges and of who it is.
// What went over a connection is of no use on another.
#pragma once

#include <string>

#include "comm/control/connection.hpp"
#include "comm/control/control.hpp"

namespace isobar::control {

/// What a process shows that it knows, as whom and where: with the port, a stranger who holds
/// another one of rank 0's node cannot pass on what both say.
struct Credentials {
  std::string key;
  std::string token;
  int rank = 0;
  int size = 1;
  int port = 0;
};

/// Those of these options at the port where rank 0 listens, or where it was dialled: the key is a
/// hash of the user's secret and the job's token.
Credentials credentials_of(const ControlOptions& options, int port);

Digest make_challenge();

/// What rank 0 sends, and what the others do: neither can be sent back as the other.
enum class Role : uint8_t { rank_0, member };

Digest prove(const Credentials& credentials, Role role, const Digest& rank_0s_challenge,
             const Digest& members_challenge);

/// Takes as long for any two.
bool is_equal(const Digest& a, const Digest& b) noexcept;

/// The part of whoever connects to rank 0, message by message; nothing here blocks. It proves
/// itself first: rank 0, which anybody can reach, proves nothing to a stranger.
class Introduction {
 public:
  enum class State { waits, stranger, accepted };

  /// `hello` is sent once rank 0 has shown that it knows the secret.
  Introduction(Credentials credentials, Hello hello);

  /// `message` came by `connection`, which is then answered.
  State take(const ControlMessage& message, Connection& connection);

  State state() const noexcept { return state_; }

 private:
  void answer(const Challenge& challenge, Connection& connection);
  void check(const Accepted& accepted, Connection& connection);

  Credentials credentials_;
  Hello hello_;
  Digest rank_0s_challenge_{};
  Digest challenge_ = make_challenge();
  bool has_answered_ = false;
  State state_ = State::waits;
};

}  // namespace isobar::control
