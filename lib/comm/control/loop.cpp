// SPDX-License-Identifier: Apache-2.0
#include "comm/control/loop.hpp"

#include <isobar/core/error.hpp>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "comm/backend/operation_facts.hpp"

namespace isobar::control {
namespace {

constexpr Milliseconds kTick{50};
/// A round of gather() ends by rank 0's clock, whose answer needs time to come.
constexpr std::chrono::seconds kGatherSlack{5};

/// Threads started meanwhile take no signals: those are for the program's own.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

Loop::Loop(const ControlOptions& options, std::shared_ptr<FirstCause> cause)
    : options_(options),
      cause_(std::move(cause)),
      limits_{
          .silence = options.silence_limit, .gather = options.start_timeout, .size = options.size},
      time_(Clock::now(), limits_.longest_turn()) {}

void Loop::start() {
  {
    const BlockSignals block;
    thread_ = std::thread([this] { run(); });
  }
  subscription_ = cause_->subscribe([this] {
    poller_.wake();
    const std::lock_guard lock(gather_mutex_);
    gather_changed_.notify_all();
  });
  cause_->set_arbiter([this](const std::string& suspicion) { tell(Suspicion{suspicion}); });
}

void Loop::stop(const std::string& reason) {
  cause_->set_arbiter(nullptr);
  reason_ = reason;
  stops_ = true;
  poller_.wake();
  thread_.join();
  cause_->unsubscribe(subscription_);
}

void Loop::tell(ControlMessage message) {
  reports_.add(std::move(message));
  poller_.wake();
}

void Loop::run() {
  pthread_setname_np(pthread_self(), "isobar-control");  // for who looks at threads
  try {
    while (!stops_) turn();
    turn();
    leave(reason_, time_.now());
  } catch (const std::exception& error) {
    cause_->record(detail::join("control connection on rank ", options_.rank, " of ", options_.size,
                                ": ", error.what()));
  }
}

void Loop::turn() {
  const auto before = time_.advance(Clock::now());
  const auto rest = std::chrono::ceil<Milliseconds>(next_turn(before) - before);
  const auto tags =
      poller_.wait(stops_ ? Milliseconds(0) : std::clamp(rest, Milliseconds(1), kTick));
  const auto now = time_.advance(Clock::now());
  // What came meanwhile speaks before any limit does.
  for (const int tag : tags) serve(tag, now);
  tick(now);
}

void Loop::deliver(Gathered gathered) {
  const std::lock_guard lock(gather_mutex_);
  gathered_ = std::move(gathered);
  gather_changed_.notify_all();
}

void Loop::deliver(Found found) {
  const std::lock_guard lock(gather_mutex_);
  found_[found.key] = std::move(found.value);
  gather_changed_.notify_all();
}

std::string Loop::get(const std::string& key, Milliseconds timeout) {
  tell(Wanted{key});
  std::unique_lock lock(gather_mutex_);
  gather_changed_.wait_for(lock, timeout, [&] { return found_.contains(key) || cause_->failed(); });
  if (found_.contains(key)) return found_[key];
  lock.unlock();
  cause_->fail(detail::join("rank ", options_.rank, " of ", options_.size, ": no rank has stored ",
                            key, " in ", in_words(timeout)));
}

Gathered Loop::take_part(const std::string& text, bool is_compared) {
  const auto round = rounds_++;
  tell(Contribution{
      .round = round, .is_compared = static_cast<uint8_t>(is_compared ? 1 : 0), .text = text});
  std::unique_lock lock(gather_mutex_);
  const auto is_there = [&] { return gathered_ && gathered_->round == round; };
  gather_changed_.wait_for(lock, limits_.gather + kGatherSlack,
                           [&] { return is_there() || cause_->failed(); });
  if (is_there()) return *std::exchange(gathered_, std::nullopt);
  lock.unlock();
  cause_->fail(detail::join("gather on rank ", options_.rank, " of ", options_.size,
                            ": no answer in ", in_words(limits_.gather)));
}

std::vector<std::string> Loop::gather(const std::string& text) {
  const auto gathered = take_part(text, false);
  std::vector<std::string> texts;
  const auto size = static_cast<size_t>(options_.size);
  for (const auto& run : gathered.runs) {
    if (run.value >= gathered.values.size() || run.count > size - texts.size()) break;
    texts.insert(texts.end(), run.count, gathered.values[run.value]);
  }
  if (texts.size() == size) return texts;
  cause_->fail(detail::join("gather on rank ", options_.rank, " of ", options_.size, ": got ",
                            texts.size(), " texts of rank 0, wanted ", size));
}

bool Loop::all_equal(const std::string& text) { return take_part(text, true).is_equal != 0; }

}  // namespace isobar::control
