// SPDX-License-Identifier: Apache-2.0
// At rank 0, first on the thread that makes the world, then on the control thread. Anybody can
// connect here, so a connection costs a challenge and a place for kKnownLimit at most. Ranks of one
// node share their address with each other, and perhaps with whoever floods this port: each gets to
// speak before anybody is evicted, and a rank that was evicted comes again.
#include "comm/control/acceptor.hpp"

#include <isobar/core/error.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <variant>

namespace isobar::control {
namespace {

constexpr int kListenerTag = 0;
/// A process of ours answers at once.
constexpr std::chrono::seconds kKnownLimit{3};
constexpr int kAcceptsAtOnce = 64;
/// Between two looks at limits and ranks, however many come.
constexpr int kTurns = 32;
/// Without a file to spare, connections wait so long in the kernel's queue.
constexpr Milliseconds kPause{500};
/// More addresses than these are an attack, which has many.
constexpr size_t kMostAddresses = 64;
constexpr size_t kMostAddressesNamed = 4;

}  // namespace

Acceptor::Acceptor(int listener, Credentials credentials)
    : listener_(listener), credentials_(std::move(credentials)) {
  poller_.add(listener_, kListenerTag);
}

std::vector<Newcomer> Acceptor::newcomers(Time now) {
  std::vector<Newcomer> known;
  resume(now);
  for (int i = 0; i < kTurns; ++i) {
    const auto tags = poller_.wait(Milliseconds(0));
    if (tags.empty()) break;
    // Who waits speaks before more come in.
    for (const int tag : tags) {
      if (tag != kListenerTag) serve(tag, known);
    }
    if (std::count(tags.begin(), tags.end(), kListenerTag) > 0) accept_some(now);
  }
  drop_late(now);
  return known;
}

void Acceptor::accept_some(Time now) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    int error = 0;
    auto socket = accept_from(listener_, error);
    if (socket) {
      accept_one(std::move(socket), now);
    } else if (error == EMFILE || error == ENFILE) {
      if (evict_one()) continue;
      lacks_files_ = true;
      resume_at_ = now + kPause;
      return poller_.remove(listener_);
    } else if (error != ECONNABORTED && error != EINTR) {
      return;
    }
  }
}

void Acceptor::accept_one(Socket socket, Time now) {
  auto address = peer_address(socket);
  Waiting waiting{.connection = Connection(std::move(socket), Hears::newcomer),
                  .address = address,
                  .since = now,
                  .challenge = make_challenge(),
                  .response = std::nullopt};
  waiting.connection.send(Challenge{waiting.challenge});
  poller_.add(waiting.connection.socket().fd(), next_tag_);
  waiting_.emplace(next_tag_++, std::move(waiting));
  ++waiting_by_address_[address];
  if (waiting_.size() > expected_ + most_strangers_) evict_one();
}

/// Of the address that has most, the oldest that has shown nothing.
bool Acceptor::evict_one() {
  const auto most =
      std::max_element(waiting_by_address_.begin(), waiting_by_address_.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == waiting_by_address_.end()) return false;
  for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
    if (it->second.response || it->second.address != most->first) continue;
    drop(it);
    return true;
  }
  return false;
}

void Acceptor::serve(int tag, std::vector<Newcomer>& known) {
  const auto entry = waiting_.find(tag);
  if (entry == waiting_.end()) return;  // evicted since
  auto& waiting = entry->second;
  const auto messages = waiting.connection.receive();
  const auto* response = messages.empty() ? nullptr : std::get_if<Response>(&messages.front());
  const auto* hello = messages.empty() ? nullptr : std::get_if<Hello>(&messages.front());
  if (waiting.connection.is_open() && messages.empty()) return;
  if (waiting.connection.is_open() && response && respond(waiting, *response)) return;
  const bool is_ours = waiting.connection.is_open() && hello && waiting.response &&
                       hello->rank == waiting.response->rank &&
                       hello->size == waiting.response->size;
  if (is_ours) {
    poller_.remove(waiting.connection.socket().fd());
    waiting.connection.hear(Hears::member);
    known.push_back({std::move(waiting.connection), *hello});
  } else if (const int version = waiting.connection.other_version()) {
    if (auto* strangers = strangers_of(waiting.address)) strangers->version = version;
  }
  drop(entry);
}

/// True where the newcomer knows the secret.
bool Acceptor::respond(Waiting& waiting, const Response& response) {
  auto theirs = credentials_;
  theirs.rank = response.rank;
  theirs.size = response.size;
  const auto expected = prove(theirs, Role::member, waiting.challenge, response.challenge);
  if (!waiting.response && is_equal(response.proof, expected)) {
    waiting.response = response;
    waiting.connection.hear(Hears::known);
    waiting.connection.send(
        Accepted{prove(theirs, Role::rank_0, waiting.challenge, response.challenge)});
    return true;
  }
  if (auto* strangers = strangers_of(waiting.address)) ++strangers->unknown;
  waiting.connection.send(Unknown{});
  return false;
}

/// Null where there are too many to be counted.
Acceptor::Strangers* Acceptor::strangers_of(const std::string& address) {
  const bool has_place = strangers_.size() < kMostAddresses || strangers_.contains(address);
  return has_place ? &strangers_[address] : nullptr;
}

void Acceptor::drop(Entry entry) {
  const auto count = waiting_by_address_.find(entry->second.address);
  if (--count->second == 0) waiting_by_address_.erase(count);
  waiting_.erase(entry);
}

void Acceptor::drop_late(Time now) {
  while (!waiting_.empty() && now - waiting_.begin()->second.since >= kKnownLimit) {
    drop(waiting_.begin());
  }
}

void Acceptor::resume(Time now) {
  if (!lacks_files_ || now < resume_at_) return;
  lacks_files_ = false;
  poller_.add(listener_, kListenerTag);
}

std::string Acceptor::strangers() const {
  std::string unknown;
  std::string versions;
  size_t named = 0;
  for (const auto& [address, strangers] : strangers_) {
    if (++named > kMostAddressesNamed) break;
    if (strangers.unknown > 0) {
      unknown += detail::join(unknown.empty() ? "; " : ", ", strangers.unknown,
                              strangers.unknown == 1 ? " connection from " : " connections from ",
                              address);
    }
    if (strangers.version > 0) {
      versions += detail::join("; ", address, " speaks version ", strangers.version,
                               " of the control connection's protocol, this program ", kVersion,
                               ": start all ranks from one build of isobar");
    }
  }
  if (!unknown.empty()) {
    unknown +=
        " did not know the job's secret: let all ranks have one ISOBAR_SECRET_FILE, or one "
        "home; another job or user needs another MASTER_PORT";
  }
  return unknown + versions;
}

}  // namespace isobar::control
