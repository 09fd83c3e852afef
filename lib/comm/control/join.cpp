// SPDX-License-Identifier: Apache-2.0
// The start on every rank but 0, on the thread that makes the world. Whoever listens at an address
// may be a stranger: only one that shows within kAnswerLimit that it knows the secret is rank 0.
// From then on this rank waits for it, somewhat longer than rank 0 itself waits for the others,
// because rank 0's answer names who is missing and this rank could not.
#include "comm/control/join.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/core/random_bytes.hpp>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "comm/backend/operation_facts.hpp"
#include "comm/control/authentication.hpp"
#include "comm/control/open_files.hpp"

namespace isobar::control {
namespace {

constexpr std::chrono::seconds kConnectLimit{2};
/// Rank 0 answers a hello at once; a stranger may never.
constexpr std::chrono::seconds kAnswerLimit{3};
/// Rank 0's clock started after this one at the latest, and it says who is missing.
constexpr std::chrono::seconds kSlack{5};

constexpr auto kNoRegroup = "; survivors cannot go on without rank 0: restart the job";

/// Of a job, what people need to tell it from another.
constexpr size_t kJobBytes = 400;

/// Longer than other texts of its kind is no host's name.
constexpr size_t kHostBytes = 255;

uint64_t make_instance() {
  uint64_t instance = 0;
  const auto bytes = random_bytes(sizeof(instance));
  std::memcpy(&instance, bytes.data(), sizeof(instance));
  return instance;
}

/// The messages of one connection in order, each awaited by name.
class Handshake {
 public:
  explicit Handshake(Connection& connection) : connection_(connection) {}

  /// True once an `M` has come; false where the connection ended or the time was over.
  template <typename M>
  bool await(Time deadline, M& into) {
    while (messages_.empty()) {
      if (!connection_.is_open() || Clock::now() >= deadline) return false;
      wait_readable(connection_.socket().fd(), deadline);
      for (auto& message : connection_.receive()) messages_.push_back(std::move(message));
    }
    const auto message = std::move(messages_.front());
    messages_.erase(messages_.begin());
    if (const auto* refused = std::get_if<Refused>(&message)) throw_as_told(*refused);
    const auto* wanted = std::get_if<M>(&message);
    if (wanted) into = *wanted;
    return wanted != nullptr;
  }

  std::vector<ControlMessage> rest() { return std::move(messages_); }

 private:
  [[noreturn]] static void throw_as_told(const Refused& refused) {
    if (refused.is_usage) throw UsageError(refused.text);
    throw CommError(refused.text);
  }

  Connection& connection_;
  std::vector<ControlMessage> messages_;
};

/// Whether who answers is this job's rank 0; if not, what it is in `why`.
bool introduce(Connection& connection, const ControlOptions& options, int port, const Hello& hello,
               std::string& why) {
  const auto deadline = Clock::now() + kAnswerLimit;
  Introduction introduction(credentials_of(options, port), hello);
  why = "who answers there is not this job's rank 0";
  while (introduction.state() == Introduction::State::waits) {
    for (const auto& message : connection.receive()) {
      if (introduction.take(message, connection) != Introduction::State::waits) break;
    }
    if (introduction.state() != Introduction::State::waits) break;
    if (!connection.is_open() || Clock::now() >= deadline) break;
    wait_readable(connection.socket().fd(), deadline);
  }
  if (introduction.state() == Introduction::State::stranger) {
    why =
        "an isobar program answers there that is not this job's rank 0: it is another job's or "
        "user's, or has another ISOBAR_SECRET or home";
  }
  if (const int version = connection.other_version()) {
    why = detail::join("rank 0 there speaks version ", version,
                       " of the control connection's protocol, this program ", kVersion,
                       ": start all ranks from one build of isobar");
  }
  return introduction.state() == Introduction::State::accepted;
}

class Joining {
 public:
  explicit Joining(const ControlOptions& options)
      : options_(options),
        hello_(make_hello(options)),
        ports_(options.other_ports),
        deadline_(Clock::now() + options.start_timeout) {}

  Joined run() {
    Joined joined;
    ports_.insert(ports_.begin(), options_.port);
    // Quickly at first, since ranks of one launch start together; those started by hand do not.
    for (auto nap = Milliseconds(10); Clock::now() < deadline_; nap = std::min(2 * nap, kMaxNap)) {
      for (const int port : ports_) {
        for (const auto& address : options_.addresses) {
          if (try_address(address, port, joined)) return joined;
        }
      }
      std::this_thread::sleep_for(nap);
    }
    throw CommError(detail::join("control connection on rank ", options_.rank, " of ",
                                 options_.size, ": rank 0 not reached in ",
                                 in_words(options_.start_timeout), "; last: ", last_,
                                 options_.regroup ? kNoRegroup : ""));
  }

 private:
  static constexpr Milliseconds kMaxNap{200};

  bool try_address(const std::string& address, int port, Joined& joined) {
    std::string error;
    const auto limit = std::min<Time>(deadline_, Clock::now() + kConnectLimit);
    Connection connection(connect_to(address, port, limit, error), Hears::unproven);
    const auto note = [&](const std::string& what) {
      last_ = detail::join(address, " port ", port, ": ", what);
      return false;
    };
    if (!connection.is_open()) return note(error);
    // A stranger may hold any port. Accepted, this rank stays until rank 0 ends or decides.
    if (!introduce(connection, options_, port, hello_, error)) return note(error);
    Handshake handshake(connection);
    Welcome welcome;
    if (!handshake.await(Clock::now() + options_.start_timeout + kSlack, welcome)) {
      return note("rank 0 was there and is gone");
    }
    const bool fits =
        options_.regroup || (welcome.rank == options_.rank && welcome.size == options_.size);
    if (!fits || welcome.rank <= 0 || welcome.rank >= welcome.size ||
        welcome.size > options_.size) {
      return note("rank 0 has a world of another size");
    }
    joined.rank = welcome.rank;
    joined.processes = ProcessTable::of_rank_0(std::move(welcome.process), welcome.size);
    joined.session = std::move(welcome.session);
    joined.early = handshake.rest();
    joined.connections.push_back(std::move(connection));
    return true;
  }

  const ControlOptions& options_;
  Hello hello_;
  std::vector<int> ports_;
  Time deadline_;
  std::string last_ = "no address was given";
};

}  // namespace

Hello make_hello(const ControlOptions& options) {
  return {.instance = make_instance(),
          .rank = options.rank,
          .size = options.size,
          .process = {options.host.substr(0, kHostBytes), getpid()},
          .job_hash = fnv1a(options.job),
          .job = options.job.substr(0, kJobBytes)};
}

std::string make_session() {
  return detail::join(std::hex, make_instance(), make_instance(), ".", std::dec, getpid());
}

std::string other_job(const Hello& hello, const Hello& own) {
  if (hello.job_hash == own.job_hash) return {};
  return detail::join("control connection: rank ", hello.rank, " of ", hello.size, " on ",
                      to_string(hello.process), " belongs to another job (", hello.job,
                      ") than rank 0 on ", to_string(own.process), " (", own.job,
                      "); give jobs that run at once a MASTER_PORT each, or, if it is one job, set "
                      "ISOBAR_JOB to one name on all its ranks");
}

Joined join_rank_0(const ControlOptions& options) {
  raise_open_files(options.rank, options.size);
  return Joining(options).run();
}

void ask_rank_0(const ControlOptions& options) {
  std::string error;
  const auto limit = Clock::now() + kAnswerLimit;
  Connection connection(connect_to("127.0.0.1", options.port, limit, error), Hears::unproven);
  if (!connection.is_open() ||
      !introduce(connection, options, options.port, make_hello(options), error)) {
    return;
  }
  Welcome welcome;
  // A rank 0 knows this one, and refuses it: thrown here.
  Handshake(connection).await(Clock::now() + kAnswerLimit, welcome);
}

}  // namespace isobar::control
