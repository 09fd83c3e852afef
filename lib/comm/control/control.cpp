// SPDX-License-Identifier: Apache-2.0
// The face of the control connection. Control is used by the thread that makes the world, a watch
// by its communicator's issuing thread, which only adds to the reports and never waits; everything
// else is the control thread's (loop.hpp). Watches and stores hold the Control, so it says goodbye
// after the last communicator of the world; a child made by fork() holds copies of them and says
// nothing.
#include "comm/control/control.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <algorithm>
#include <exception>
#include <utility>

#include "comm/backend/keeper.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/control/connection.hpp"
#include "comm/control/coordinator.hpp"
#include "comm/control/join.hpp"
#include "comm/control/member.hpp"
#include "comm/control/row_balance.hpp"

namespace isobar {
namespace {

void check_control_options(const ControlOptions& options, const ControlListener* listener) {
  const auto where =
      detail::join("control connection on rank ", options.rank, " of ", options.size);
  ISOBAR_CHECK(options.size > 0 && options.rank >= 0 && options.rank < options.size, where,
               ": no such rank");
  ISOBAR_CHECK(options.start_timeout.count() > 0 && options.silence_limit.count() > 0, where,
               ": start_timeout and silence_limit must be positive, got ",
               options.start_timeout.count(), " and ", options.silence_limit.count(), " ms");
  if (options.size == 1) return;
  ISOBAR_CHECK(!options.regroup ||
                   (options.regroup->expected >= 0 && options.regroup->expected <= options.size &&
                    options.regroup->lost_size >= 0 && options.regroup->lost_size <= options.size &&
                    options.regroup->settle.count() > 0),
               where, ": no such regroup");
  ISOBAR_CHECK(!options.secret.empty(), where, ": no secret was given");
  ISOBAR_CHECK((options.rank == 0) == (listener != nullptr), where,
               ": rank 0 and no other rank has a listener");
  ISOBAR_CHECK(options.rank == 0 || !options.addresses.empty(), where,
               ": no address of rank 0 was given");
}

/// Why something ends that is being destroyed.
std::string reason_now(const std::string& otherwise) {
  return std::uncaught_exceptions() > 0 ? "an exception ended it" : otherwise;
}

/// A world of one has nobody to tell.
class NoWatch final : public Watch {
 public:
  void issued(const Operation&) noexcept override {}
  std::unique_ptr<Watch> split(int64_t, int, int, int) override {
    return std::make_unique<NoWatch>();
  }
};

class ControlStore final : public KeyValueStore {
 public:
  ControlStore(std::shared_ptr<Control> control, control::Loop& loop)
      : control_(std::move(control)), loop_(loop) {}

  void set(const std::string& key, const std::string& value) override {
    loop_.tell(control::Stored{key, value});
  }
  std::string get(const std::string& key, std::chrono::milliseconds timeout) override {
    return loop_.get(key, timeout);
  }

 private:
  std::shared_ptr<Control> control_;
  control::Loop& loop_;
};

class ControlWatch final : public Watch {
 public:
  ControlWatch(std::shared_ptr<Control> control, control::Reports& reports, uint64_t id, int rank,
               RowCounts rows)
      : control_(std::move(control)), reports_(reports), id_(id), rank_(rank), rows_(rows) {}

  ~ControlWatch() override {
    if (!home_.is_here()) return;
    reports_.unwatch({.id = id_, .reason = reason_now(kDestroyed)});
  }

  void issued(const Operation& operation) noexcept override {
    reports_.issued(id_, operation.sequence, call_of(operation), row_balance_of(operation));
  }

  /// Equal on the members, since they split alike.
  std::unique_ptr<Watch> split(int64_t split, int color, int rank, int size) override {
    return control_->watch(fnv1a(detail::join(id_, " ", split, " ", color)), rank, size, rows_);
  }

 private:
  std::optional<uint64_t> row_balance_of(const Operation& operation) const noexcept {
    const bool is_compared =
        rows_ == RowCounts::by_control && operation.kind == OperationKind::all_to_all;
    if (!is_compared) return std::nullopt;
    return control::row_balance(operation.sequence, rank_, operation.input_rows,
                                operation.output_rows);
  }

  HomeProcess home_;
  std::shared_ptr<Control> control_;  // says goodbye when the last communicator is gone
  control::Reports& reports_;
  uint64_t id_;
  int rank_;
  RowCounts rows_;
};

}  // namespace

ControlListener::ControlListener(int port)
    : socket_(control::listen_on(port)), port_(control::port_of(socket_.fd())) {}

struct Control::Impl {
  HomeProcess home;
  ControlOptions options;
  std::unique_ptr<ControlListener> listener;
  std::string own_address = "127.0.0.1";
  /// Null in a world of one.
  std::unique_ptr<control::Loop> loop;
};

Control::Control(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

std::shared_ptr<Control> Control::open(const ControlOptions& options,
                                       std::unique_ptr<ControlListener> listener,
                                       std::shared_ptr<FirstCause> cause) {
  check_control_options(options, listener.get());
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->listener = std::move(listener);
  impl->options.session = control::make_session();
  if (options.size > 1) {
    impl->loop = options.rank == 0
                     ? control::make_coordinator(impl->options, impl->listener->socket_.fd(),
                                                 std::move(cause), impl->own_address)
                     : control::make_member(impl->options, std::move(cause), impl->own_address);
    impl->loop->start();
  }
  return std::shared_ptr<Control>(new Control(std::move(impl)));
}

void Control::ask_who_is_there(const ControlOptions& options) { control::ask_rank_0(options); }

// A forked child has no control thread, and the connections in it are closed.
Control::~Control() {
  if (!impl_->home.is_here()) {
    keep_to_the_end(std::move(impl_));
    return;
  }
  if (impl_->loop) impl_->loop->stop(reason_now({}));
}

namespace {

/// What rank 0 can hand round, were every rank's text another one.
void check_length(const std::string& text, const ControlOptions& options) {
  const auto limit = std::min(control::kRoundBytes,
                              control::kMessageBytes / 2 / static_cast<size_t>(options.size));
  ISOBAR_CHECK(text.size() <= limit, "gather on rank ", options.rank, " of ", options.size,
               ": got a text of ", text.size(), " bytes, wanted at most ", limit);
}

}  // namespace

std::vector<std::string> Control::gather(const std::string& text) {
  if (!impl_->loop) return {text};
  check_length(text, impl_->options);
  return impl_->loop->gather(text);
}

bool Control::all_equal(const std::string& text) {
  if (!impl_->loop) return true;
  check_length(text, impl_->options);
  return impl_->loop->all_equal(text);
}

std::shared_ptr<KeyValueStore> Control::store() {
  if (!impl_->loop) return std::make_shared<MemoryStore>();
  return std::make_shared<ControlStore>(shared_from_this(), *impl_->loop);
}

std::string Control::own_address() const { return impl_->own_address; }

int Control::rank() const noexcept { return impl_->options.rank; }
int Control::size() const noexcept { return impl_->options.size; }
const std::string& Control::session() const noexcept { return impl_->options.session; }

std::unique_ptr<Watch> Control::watch(uint64_t id, int rank, int size, RowCounts rows) {
  if (!impl_->loop) return std::make_unique<NoWatch>();
  auto& reports = impl_->loop->reports();
  reports.watch({.id = id, .rank = rank, .size = size});
  return std::make_unique<ControlWatch>(shared_from_this(), reports, id, rank, rows);
}

}  // namespace isobar
