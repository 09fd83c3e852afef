// SPDX-License-Identifier: Apache-2.0
// What goes over a control connection. A frame is four bytes that name protocol and
// version, the length of what follows in four bytes, one byte for the kind of the
// message, and its fields; integers are little endian.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "comm/backend/call.hpp"
#include "comm/control/process_table.hpp"

namespace isobar::control {

/// A process introduces itself to rank 0. `instance` tells two processes apart that
/// call themselves the same, and the second attempt of one from a second process. `job` is the
/// beginning of ControlOptions::job, `job_hash` the hash of all of it.
struct Hello {
  std::string token;
  uint64_t instance = 0;
  int32_t rank = 0;
  int32_t size = 0;
  Process process;
  uint64_t job_hash = 0;
  std::string job = {};
  static void fields(auto& m, auto&& visit) {
    visit(m.token, m.instance, m.rank, m.size, m.process, m.job_hash, m.job);
  }
};

/// Rank 0 knows the newcomer as one of its job.
struct Accepted {
  static void fields(auto&, auto&& visit) { visit(); }
};

/// All are there; `session` is a text of this world alone.
struct Welcome {
  std::vector<Process> processes;
  std::string session = {};
  static void fields(auto& m, auto&& visit) { visit(m.processes, m.session); }
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

/// Calls `first`, `first` + 1, ... on the communicator `id`.
struct Calls {
  uint64_t id = 0;
  int64_t first = 0;
  std::vector<Call> calls;
  static void fields(auto& m, auto&& visit) { visit(m.id, m.first, m.calls); }
};

struct Unwatched {
  uint64_t id = 0;
  std::string reason;
  static void fields(auto& m, auto&& visit) { visit(m.id, m.reason); }
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

struct Contribution {
  int32_t round = 0;
  std::string text;
  static void fields(auto& m, auto&& visit) { visit(m.round, m.text); }
};

struct Gathered {
  int32_t round = 0;
  std::vector<std::string> texts;
  static void fields(auto& m, auto&& visit) { visit(m.round, m.texts); }
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

/// Who came to a regroup, by their ranks in the world that failed.
struct Survivors {
  std::vector<int32_t> ranks;
  static void fields(auto& m, auto&& visit) { visit(m.ranks); }
};

using ControlMessage = std::variant<Hello, Accepted, Welcome, Refused, Alive, Probe, Watching,
                                    Calls, Unwatched, Suspicion, Verdict, Goodbye, Contribution,
                                    Gathered, Stored, Wanted, Found, Survivors>;

/// The whole frame of `message`.
std::string encode(const ControlMessage& message);

/// Cuts a stream of bytes into messages. What is no message, or a longer one than
/// `limit` bytes, makes the stream broken for good; memory grows by the bytes that
/// have come, not by those that are announced.
class FrameReader {
 public:
  explicit FrameReader(size_t limit) : limit_(limit) {}

  void set_limit(size_t limit) { limit_ = limit; }
  void append(std::string_view bytes);

  /// The next message that is complete.
  std::optional<ControlMessage> next();
  bool is_broken() const noexcept { return broken_; }

 private:
  std::string bytes_;
  size_t read_ = 0;
  size_t limit_;
  bool broken_ = false;
};

}  // namespace isobar::control
