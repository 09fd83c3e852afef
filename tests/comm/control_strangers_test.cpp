// SPDX-License-Identifier: Apache-2.0
// Who does not know the secret: none joins, ends or delays a start.
#include "comm/control/authentication.hpp"

#include <isobar/core/error.hpp>

#include "comm/control/admission.hpp"
#include "comm/control_world.hpp"
#include "comm/expect_error.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <list>
#include <random>
#include <set>

namespace isobar::control_strangers_test {
namespace {

using namespace std::chrono_literals;
using namespace control;
using test::control_options;
using test::error_of;
using test::expect_contains;
using test::opening;

/// What only a start that hangs takes longer than.
constexpr auto kSoon = 10s;

Connection connection_to(int port) {
  std::string error;
  return Connection(connect_to("127.0.0.1", port, Clock::now() + 5s, error), Hears::unproven);
}

/// The next message that comes, or none where the connection ends or nothing comes.
std::optional<ControlMessage> next_of(Connection& connection) {
  const auto limit = Clock::now() + kSoon;
  while (connection.is_open() && Clock::now() < limit) {
    wait_readable(connection.socket().fd(), limit);
    auto messages = connection.receive();
    if (!messages.empty()) return messages.front();
  }
  return std::nullopt;
}

/// Rank 0 of two that waits for rank 1, which comes when its test has tried all else.
class Waiting {
 public:
  Waiting() {
    auto listener = std::make_unique<ControlListener>();
    port_ = listener->port();
    rank_0_ = opening(control_options(0, 2, port_), std::move(listener));
  }

  int port() const { return port_; }

  /// Both are there soon, and nobody else; how long that took.
  Clock::duration complete() {
    const auto since = Clock::now();
    const auto rank_1 = opening(control_options(1, 2, port_)).get();
    const auto rank_0 = rank_0_.get();
    const auto took = Clock::now() - since;
    EXPECT_EQ(rank_1->session(), rank_0->session());
    return took;
  }

 private:
  int port_ = 0;
  std::future<std::shared_ptr<Control>> rank_0_;
};

/// Says in the test's report how long it was.
void expect_soon(Clock::duration delay) {
  EXPECT_LT(delay, kSoon);
  const auto ms = std::chrono::duration_cast<Milliseconds>(delay).count();
  testing::Test::RecordProperty("start_ms", static_cast<int>(ms));
}

TEST(Proof, BindsChallengesRoleRankSizePortAndToken) {
  const auto options = control_options(1, 3, 1);
  const auto credentials = credentials_of(options, options.port);
  const Digest one = make_challenge();
  const Digest other = make_challenge();
  const auto proof = prove(credentials, Role::member, one, other);
  EXPECT_TRUE(is_equal(proof, prove(credentials, Role::member, one, other)));
  std::vector<Digest> others{prove(credentials, Role::rank_0, one, other),
                             prove(credentials, Role::member, other, one),
                             prove(credentials, Role::member, one, one)};
  const auto with = [&](auto change) {
    auto changed = options;
    change(changed);
    others.push_back(prove(credentials_of(changed, changed.port), Role::member, one, other));
  };
  with([](auto& o) { o.rank = 2; });
  with([](auto& o) { o.size = 4; });
  with([](auto& o) { o.port = 2; });
  with([](auto& o) { o.token += "x"; });
  with([](auto& o) { o.secret += "x"; });
  for (const auto& different : others) EXPECT_FALSE(is_equal(proof, different));
}

TEST(Strangers, GetAChallengeThatNobodyHasSeenAndNoProof) {
  Waiting world;
  std::set<Digest> challenges;
  for (int i = 0; i < 50; ++i) {
    auto connection = connection_to(world.port());
    const auto first = next_of(connection);
    const auto* challenge = first ? std::get_if<Challenge>(&*first) : nullptr;
    ASSERT_TRUE(challenge);
    challenges.insert(challenge->challenge);
    connection.send(Response{.rank = 1, .size = 2, .challenge = {}, .proof = {}});
    const auto answer = next_of(connection);
    EXPECT_TRUE(answer && std::holds_alternative<Unknown>(*answer));
    EXPECT_FALSE(next_of(connection));
  }
  EXPECT_EQ(challenges.size(), 50U);
  world.complete();
}

/// What a member sent on its own connection, on another one.
TEST(Strangers, CannotReplayWhatAMemberSent) {
  Waiting world;
  const auto credentials = credentials_of(control_options(1, 2, world.port()), world.port());
  auto seen = connection_to(world.port());
  const auto challenge = std::get<Challenge>(next_of(seen).value()).challenge;
  const Response response{.rank = 1,
                          .size = 2,
                          .challenge = make_challenge(),
                          .proof = prove(credentials, Role::member, challenge, {})};
  auto true_response = response;
  true_response.proof = prove(credentials, Role::member, challenge, response.challenge);
  seen.send(true_response);
  EXPECT_TRUE(std::holds_alternative<Accepted>(next_of(seen).value()));
  auto again = connection_to(world.port());
  next_of(again);
  again.send(true_response);
  EXPECT_TRUE(std::holds_alternative<Unknown>(next_of(again).value()));
  // One who was known as rank 1 is no other rank.
  seen.send(make_hello(control_options(0, 2, world.port())));
  EXPECT_FALSE(next_of(seen));
  world.complete();
}

/// Rank 1 of two meets somebody who answers each of its connections by `bytes`: what it says in the
/// end, and what it had said to him.
std::pair<std::string, std::string> meet_a_stranger(ControlOptions options,
                                                    const std::string& bytes) {
  const auto listener = listen_on(0);
  options.port = port_of(listener.fd());
  auto member = std::async(std::launch::async, [&] {
    return error_of<CommError>(
        [&] { Control::open(options, nullptr, std::make_shared<FirstCause>()); });
  });
  std::string heard;
  while (member.wait_for(0s) != std::future_status::ready) {
    wait_readable(listener.fd(), Clock::now() + 20ms);
    int error = 0;
    const auto socket = accept_from(listener.fd(), error);
    if (!socket) continue;
    send(socket.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    for (int i = 0; i < 10; ++i) {
      std::array<char, 4096> buffer;
      wait_readable(socket.fd(), Clock::now() + 20ms);
      const auto count = recv(socket.fd(), buffer.data(), buffer.size(), 0);
      if (count > 0) heard.append(buffer.data(), static_cast<size_t>(count));
      if (count == 0) break;
    }
  }
  return {member.get(), heard};
}

TEST(Strangers, LearnNothingOfAMember) {
  auto options = control_options(1, 2, 0);
  options.start_timeout = 500ms;
  options.host = "a-name-that-travels-to-friends-only";
  const auto [said, heard] = meet_a_stranger(
      options, encode(Challenge{make_challenge()}) + encode(Accepted{make_challenge()}));
  expect_contains(said, "that is not this job's rank 0");
  EXPECT_FALSE(heard.empty());
  EXPECT_EQ(heard.find(options.host), std::string::npos);
  EXPECT_EQ(heard.find(options.secret), std::string::npos);
}

TEST(Strangers, OfAnotherVersionAreToldApart) {
  auto options = control_options(1, 2, 0);
  options.start_timeout = 500ms;
  auto frame = encode(Challenge{});
  frame[3] = static_cast<char>(kVersion + 1);
  expect_contains(meet_a_stranger(options, frame).first, "rank 0 there speaks version " +
                                                             std::to_string(kVersion + 1) +
                                                             " of the control connection's");
}

/// A way in which somebody without the secret tries to get in.
using Try = std::function<void(Connection&, std::mt19937&)>;

std::vector<Try> all_tries(int port) {
  const auto wrong = [port](int rank) {
    auto options = control_options(rank, 2, port);
    options.secret = "guessed";
    return credentials_of(options, options.port);
  };
  const auto answer = [](Connection& connection, const Credentials& credentials) {
    const auto first = next_of(connection);
    const auto* challenge = first ? std::get_if<Challenge>(&*first) : nullptr;
    const auto own = make_challenge();
    connection.send(Response{.rank = credentials.rank,
                             .size = credentials.size,
                             .challenge = own,
                             .proof = prove(credentials, Role::member,
                                            challenge ? challenge->challenge : Digest{}, own)});
  };
  return {
      [=](Connection& c, std::mt19937& random) { answer(c, wrong(int(random() % 3))); },
      [=](Connection& c, std::mt19937&) { c.send(make_hello(control_options(1, 2, port))); },
      [](Connection& c, std::mt19937&) { c.send(Verdict{"the disk array is on fire"}); },
      [](Connection& c, std::mt19937& random) {
        const auto frame = encode(Response{.rank = 1, .size = 2});
        c.send_frame(frame.substr(0, 1 + random() % (frame.size() - 1)));
      },
      [](Connection& c, std::mt19937& random) {
        auto frame = encode(Response{.rank = 1, .size = 2});
        for (int i = 4; i < 8; ++i) frame[i] = static_cast<char>(random());
        c.send_frame(frame + std::string(random() % 100'000, 'x'));
      },
      [](Connection& c, std::mt19937& random) {
        std::string noise(random() % 5000, '\0');
        for (auto& byte : noise) byte = static_cast<char>(random());
        c.send_frame(noise);
      },
      [](Connection&, std::mt19937&) {},  // silence
  };
}

TEST(Strangers, DoNotJoinEndOrDelayAStartInAThousandTries) {
  Waiting world;
  std::mt19937 random(7);
  const auto tries = all_tries(world.port());
  std::vector<Connection> kept;
  for (int i = 0; i < 1000; ++i) {
    auto connection = connection_to(world.port());
    ASSERT_TRUE(connection.is_open());
    tries[random() % tries.size()](connection, random);
    if (random() % 2) kept.push_back(std::move(connection));
  }
  expect_soon(world.complete());
}

/// Connected from that address of this machine.
Socket connected_from(const char* own, int port) {
  Socket socket([] { return ::socket(AF_INET, SOCK_STREAM, 0); });
  sockaddr_in address{};
  address.sin_family = AF_INET;
  inet_pton(AF_INET, own, &address.sin_addr);
  bind(socket.fd(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  connect(socket.fd(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  return socket;
}

/// The other end has closed it, after its challenge.
bool is_closed(const Socket& socket) {
  std::array<char, 4096> buffer;
  while (true) {
    const auto count = recv(socket.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count <= 0) return count == 0;
  }
}

TEST(Strangers, AreSoManyAtMostAndGiveWayByAddress) {
  Waiting world;
  const auto alone = connected_from("127.0.0.2", world.port());
  std::vector<Socket> many;
  for (int i = 0; i < 600; ++i) many.push_back(connected_from("127.0.0.1", world.port()));
  const auto open = [&] {
    return std::count_if(many.begin(), many.end(), [](auto& one) { return !is_closed(one); });
  };
  const auto most = static_cast<long>(kMostStrangers) + 1;
  const auto limit = Clock::now() + 2s;  // before they are closed for saying nothing
  while (open() > most && Clock::now() < limit) std::this_thread::sleep_for(1ms);
  EXPECT_LE(open(), most);
  EXPECT_FALSE(is_closed(many.back()));
  EXPECT_FALSE(is_closed(alone));
  expect_soon(world.complete());
}

TEST(Strangers, WhoFloodDoNotHoldUpTheRanksOfTheirAddress) {
  Waiting world;
  std::atomic<bool> stops{false};
  std::atomic<int> made{0};
  std::vector<std::thread> flood;
  for (int i = 0; i < 2; ++i) {
    flood.emplace_back([&] {
      std::list<Connection> open;
      while (!stops) {
        open.push_back(connection_to(world.port()));
        if (open.size() > 1000) open.pop_front();
        ++made;
      }
    });
  }
  while (made < 3000) std::this_thread::sleep_for(1ms);
  expect_soon(world.complete());
  stops = true;
  for (auto& thread : flood) thread.join();
}

TEST(Strangers, AreCountedWhereAStartFails) {
  auto listener = std::make_unique<ControlListener>();
  auto options = control_options(0, 2, listener->port());
  options.start_timeout = 1s;
  auto rank_0 = std::async(std::launch::async, [&] {
    return error_of<CommError>(
        [&] { Control::open(options, std::move(listener), std::make_shared<FirstCause>()); });
  });
  auto other = control_options(1, 2, options.port);
  other.secret = "another user's";
  for (int i = 0; i < 3; ++i) {
    auto connection = test::introduced(other);
    EXPECT_FALSE(next_of(connection));
  }
  auto old = connection_to(options.port);
  auto frame = encode(Alive{});
  frame[3] = 4;
  old.send_frame(frame);
  const auto text = rank_0.get();
  expect_contains(text, "rank 1 has not come in 1 s");
  expect_contains(text, "; 3 connections from 127.0.0.1 did not know the job's secret: let all");
  expect_contains(text, "127.0.0.1 speaks version 4 of the control connection's protocol, this");
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

/// Whether `act` finds nothing wrong in a process that may have so many open files.
bool holds_with_files(const rlimit& limit, const std::function<bool()>& act) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    setrlimit(RLIMIT_NOFILE, &limit);
    _exit(act() ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && status == 0;
}

TEST(OpenFiles, AreRaisedToWhatTheSizeNeeds) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 256;
  EXPECT_TRUE(holds_with_files(limit, [] {
    const auto shortage = raise_open_files(0, 1100);
    rlimit raised{};
    getrlimit(RLIMIT_NOFILE, &raised);
    return !shortage && raised.rlim_cur >= 1100U + kMostStrangers;
  }));
}

TEST(OpenFiles, AreToldAtOnceWhereTheHardLimitForbidsThem) {
  EXPECT_TRUE(holds_with_files({.rlim_cur = 256, .rlim_max = 300}, [] {
    auto listener = std::make_unique<ControlListener>();
    auto options = control_options(0, 1100, listener->port());
    options.start_timeout = 300s;  // longer than this process lives
    auto rank_0 = std::async(std::launch::async, [&] {
      return error_of<UsageError>(
          [&] { Control::open(options, std::move(listener), std::make_shared<FirstCause>()); });
    });
    auto other = options;
    other.rank = 1;
    const auto told = error_of<UsageError>(
        [&] { Control::open(other, nullptr, std::make_shared<FirstCause>()); });
    const auto text = rank_0.get();
    return told == text &&
           text.find("rank 0 of 1100: may have 300 open files, wanted 1") != std::string::npos &&
           text.find("; raise the hard limit of this node: ulimit -Hn 1") != std::string::npos;
  }));
}

/// A start whose files are used up by somebody else ends, and does not spin.
TEST(OpenFiles, ThatAreUsedUpEndAStart) {
  EXPECT_TRUE(holds_with_files({.rlim_cur = 400, .rlim_max = 400}, [] {
    auto listener = std::make_unique<ControlListener>();
    auto options = control_options(0, 300, listener->port());
    options.start_timeout = 300s;
    auto rank_0 = std::async(std::launch::async, [&] {
      return error_of<CommError>(
          [&] { Control::open(options, std::move(listener), std::make_shared<FirstCause>()); });
    });
    std::this_thread::sleep_for(200ms);
    std::vector<Socket> others;
    std::string error;
    while (true) {
      Socket one([] { return ::socket(AF_INET, SOCK_STREAM, 0); });
      if (!one) break;
      others.push_back(std::move(one));
    }
    others.pop_back();  // for this end; the other one finds no place, and nobody to give one up
    const auto stranger = connect_to("127.0.0.1", options.port, Clock::now() + 1s, error);
    return rank_0.get().find("too many open files after 0 ranks; raise the limit") !=
           std::string::npos;
  }));
}

}  // namespace
}  // namespace isobar::control_strangers_test
