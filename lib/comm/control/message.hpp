// SPDX-License-Identifier: Apache-2.0
// What goes over a control connection. A frame is four bytes that name protocol and
// version, the length of what follows in four bytes, one byte for the kind of the
// message, and its fields; integers are little endian.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "comm/backend/call.hpp"
#include "comm/control/process_table.hpp"

namespace isobar::control {

/// 32 bytes: a random challenge, or a keyed hash.
using Digest = std::array<uint8_t, 32>;

/// Rank 0's first word to whoever connects; nothing in it but what nobody has seen before.
struct Challenge {
  Digest challenge{};
  static void fields(auto& m, auto&& visit) { visit(m.challenge); }
};

/// The newcomer's answer: as whom it knows the secret, and a challenge of its own.
struct Response {
  int32_t rank = 0;
  int32_t size = 0;
  Digest challenge{};
  Digest proof{};
  static void fields(auto& m, auto&& visit) { visit(m.rank, m.size, m.challenge, m.proof); }
};

/// Rank 0 knows the newcomer as one of its job, and shows that it is this job's rank 0.
struct Accepted {
  Digest proof{};
  static void fields(auto& m, auto&& visit) { visit(m.proof); }
};

/// Rank 0 does not: nothing more is said to a stranger.
struct Unknown {
  static void fields(auto&, auto&& visit) { visit(); }
};

/// A process introduces itself to a rank 0 that it knows. `instance` tells two processes apart that
/// call themselves the same, and the second attempt of one from a second process. `job` is the
/// beginning of ControlOptions::job, `job_hash` the hash of all of it.
struct Hello {
  uint64_t instance = 0;
  int32_t rank = 0;
  int32_t size = 0;
  Process process;
  uint64_t job_hash = 0;
  std::string job = {};
  static void fields(auto& m, auto&& visit) {
    visit(m.instance, m.rank, m.size, m.process, m.job_hash, m.job);
  }
};

/// All are there. Which rank the newcomer is among them, who rank 0 is, and a text of this world
/// alone: all that a rank says by itself of another is of rank 0.
struct Welcome {
  int32_t rank = 0;
  int32_t size = 0;
  Process process;
  std::string session = {};
  static void fields(auto& m, auto&& visit) { visit(m.rank, m.size, m.process, m.session); }
};

/// The world will not start; UsageError or CommError.
struct Refused {
  uint8_t is_usage = 0;
  std::string text;
  static void fields(auto& m, auto&& visit) { visit(m.is_usage, m.text); }
};

struct Alive {
  static void fields(auto&, auto&& visit) { visit(); }
};

/// Rank 0 wants to know now what would be reported later.
struct Probe {
  static void fields(auto&, auto&& visit) { visit(); }
};

struct Watching {
  uint64_t id = 0;
  int32_t rank = 0;
  int32_t size = 0;
  static void fields(auto& m, auto&& visit) { visit(m.id, m.rank, m.size); }
};

/// Calls `first`, `first` + 1, ... on the communicator `id`. Beside them, since no two ranks' are
/// alike, the row_balance() of each all_to_all among them, in their order; none where the transport
/// compares row counts itself.
struct Calls {
  uint64_t id = 0;
  int64_t first = 0;
  std::vector<Call> calls;
  std::vector<uint64_t> row_balances = {};
  static void fields(auto& m, auto&& visit) { visit(m.id, m.first, m.calls, m.row_balances); }
};

struct Unwatched {
  uint64_t id = 0;
  std::string reason;
  static void fields(auto& m, auto&& visit) { visit(m.id, m.reason); }
};

/// What a rank has done on all its communicators since the last time; a sign of life too.
struct Report {
  std::vector<Watching> watching;
  std::vector<Calls> calls;
  std::vector<Unwatched> unwatched;
  static void fields(auto& m, auto&& visit) { visit(m.watching, m.calls, m.unwatched); }
};

/// A suspicion: rank 0 finds the cause.
struct Suspicion {
  std::string text;
  static void fields(auto& m, auto&& visit) { visit(m.text); }
};

/// The cause, recorded already by whoever sends it.
struct Verdict {
  std::string text;
  static void fields(auto& m, auto&& visit) { visit(m.text); }
};

struct Progress {
  uint64_t id = 0;
  int64_t count = 0;
  static void fields(auto& m, auto&& visit) { visit(m.id, m.count); }
};

/// A process ends its part; rank 0 says too how far it came, since nobody else can
/// tell the others afterwards.
struct Goodbye {
  std::string reason;
  std::vector<Progress> progress;
  static void fields(auto& m, auto&& visit) { visit(m.reason, m.progress); }
};

/// A rank's text in a round of gather(), or of all_equal().
struct Contribution {
  int32_t round = 0;
  uint8_t is_compared = 0;
  std::string text;
  static void fields(auto& m, auto&& visit) { visit(m.round, m.is_compared, m.text); }
};

/// So many ranks in a row have the same of a round's values.
struct Run {
  uint32_t value = 0;
  uint32_t count = 0;
  static void fields(auto& run, auto&& visit) { visit(run.value, run.count); }
};

/// What came of a round: each different text once, and who has it, in the order of ranks; of a
/// comparison neither.
struct Gathered {
  int32_t round = 0;
  uint8_t is_equal = 0;
  std::vector<std::string> values;
  std::vector<Run> runs;
  static void fields(auto& m, auto&& visit) { visit(m.round, m.is_equal, m.values, m.runs); }
};

/// A value left at rank 0 under its key, and one that is wanted as soon as it is there.
struct Stored {
  std::string key;
  std::string value;
  static void fields(auto& m, auto&& visit) { visit(m.key, m.value); }
};

struct Wanted {
  std::string key;
  static void fields(auto& m, auto&& visit) { visit(m.key); }
};

struct Found {
  std::string key;
  std::string value;
  static void fields(auto& m, auto&& visit) { visit(m.key, m.value); }
};

using ControlMessage = std::variant<Challenge, Response, Accepted, Unknown, Hello, Welcome, Refused,
                                    Alive, Probe, Report, Suspicion, Verdict, Goodbye, Contribution,
                                    Gathered, Stored, Wanted, Found>;

/// Whom an end of a connection hears now, and so what may come: of whoever is not known, one short
/// message of one kind.
enum class Hears {
  /// Rank 0, a newcomer's Response.
  newcomer,
  /// Rank 0, the Hello of one who knows the secret.
  known,
  /// Rank 0, a member of its world.
  member,
  /// Others, a rank 0 that has not shown that it knows the secret.
  unproven,
  /// Others, their rank 0.
  rank_0,
};

/// A message that rank 0 has for all ranks has at most so many bytes.
inline constexpr size_t kMessageBytes = 16 << 20;

/// The same of a rank's text in a round.
inline constexpr size_t kRoundBytes = 1 << 20;

/// `text`, or its beginning where it is longer than any message may be.
std::string shortened(const std::string& text);

/// The whole frame of `message`.
std::string encode(const ControlMessage& message);

/// Cuts a stream of bytes into messages. What is none that may come now, or is longer than its kind
/// may be, makes the stream broken for good; memory grows by the bytes that have come, not by those
/// that are announced.
class FrameReader {
 public:
  explicit FrameReader(Hears hears) : hears_(hears) {}

  /// From the next message on.
  void hear(Hears hears) { hears_ = hears; }
  void append(std::string_view bytes);

  /// The next message that is complete.
  std::optional<ControlMessage> next();
  bool is_broken() const noexcept { return broken_; }

  /// What broke the stream is a message in another version of this protocol: its number, or 0.
  int other_version() const noexcept { return other_version_; }

 private:
  std::string bytes_;
  size_t read_ = 0;
  Hears hears_;
  bool broken_ = false;
  int other_version_ = 0;
};

/// This protocol's version.
inline constexpr int kVersion = 6;

}  // namespace isobar::control
