// SPDX-License-Identifier: Apache-2.0
// Three ways lead to Gloo. Its own collectives are started by the caller and ended by a thread of
// Gloo's; schedules run one at a time on a thread of the communicator's, with a second one for what
// is sent; each message of the user's has a thread that waits for it. Which way an operation goes
// depends on its type, its size and the options, which are equal on all ranks, and each way has
// tags of its own: so the order of the calls need not hold between the ways, and holds within each.
// All of them refer to GlooState, which outlives the communicator where one of them is still under
// way.
#include "comm/gloo/communicator.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/stopwatch.hpp>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/completion.hpp"
#include "comm/backend/job_queue.hpp"
#include "comm/backend/keeper.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/backend/tensor_bytes.hpp"
#include "comm/gloo/announced_exchange.hpp"
#include "comm/gloo/crash.hpp"
#include "comm/gloo/schedule_run.hpp"
#include "comm/schedule/schedule.hpp"

namespace isobar {
namespace {

/// How many messages of a user's may wait at a time; each takes a thread, since Gloo's messages
/// can only be waited for.
constexpr int kMessageThreads = 1024;
/// How long a destructor waits for operations that nobody has waited for.
constexpr std::chrono::seconds kIdleLimit{1};

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// Of a piece, what each rank sums.
constexpr int64_t kPart = 512 << 10;

/// How long messages are over a socket: Gloo asks the receiver before each, so they are longer than
/// where the library does that itself.
constexpr ScheduleTuning kTuning{
    .owner_bytes_each_rank = 128 << 10, .segment_bytes = 256 << 10, .window_bytes = 2 << 20};

/// Of an all_to_all: while one receiver is asked, a shorter message has the link (16 MiB over
/// 1 Gbit/s: 0.92 of the link in 256 KiB, 0.94 in 128 KiB, 0.93 in 64 KiB).
constexpr ScheduleTuning kExchangeTuning{.segment_bytes = 128 << 10,
                                         .window_bytes = kTuning.window_bytes};

/// What Gloo's own ring sums: what a schedule would sum in a ring too. The time of a short message
/// is all latency, which two steps by owners take less often than a ring's 2(n-1).
bool gloo_sums(const at::Tensor& values, int size) {
  const auto type = values.scalar_type();
  if (type == at::kShort || needs_owner(type, false) || values.numel() == 0) return false;
  return size == 2 ||
         sum_schedule(OperationKind::allreduce, byte_count(values), size, kTuning) == ring_schedule;
}

/// The least of a long sum that Gloo gets at a time, where in pieces. Its ring waits for the
/// neighbour at every step; while one piece waits, another has the link (16 MiB over 1 Gbit/s: 0.97
/// of the link whole, 0.99 in pieces). Pieces of half the length carry no more, and take a fifth
/// more of a core.
int64_t piece_bytes(int size) { return kPart * size; }

/// Above this the processor limits, not the link, and pieces only cost more of it (at 10 Gbit/s
/// between nodes on two cores: a fifth).
constexpr double kLinkBytesPerSecond = 1.2e9 / 8;

/// What each rank sends at a time where links are measured, under a tag of its own.
constexpr int64_t kMeasuredBytes = 1 << 20;
constexpr int kMeasureTag = (1 << 16) + 1;

/// Blocks until the sum is there.
void sum_now(GlooGroup& group, const at::Tensor& values, ReduceOp op,
             std::chrono::milliseconds timeout) {
  std::promise<std::string> ended;
  group.allreduce(values, op, timeout, [&](const std::string& error) { ended.set_value(error); });
  const auto error = ended.get_future().get();
  if (!error.empty()) throw CommError("backend gloo: measuring the links: " + first_line(error));
}

/// Blocks until this rank has sent `sent` to the next one and has got the previous one's, as each
/// step of a ring does on all ranks at once.
void pass_on(GlooGroup& group, const GlooOptions& options, const at::Tensor& sent,
             const at::Tensor& received) {
  const int next = (options.rank + 1) % options.size;
  const int previous = (options.rank + options.size - 1) % options.size;
  const auto arrival = group.receive(received, previous, kMeasureTag);
  const auto departure = group.send(sent, next, kMeasureTag);
  departure->wait(options.timeout);
  arrival->wait(options.timeout);
}

/// True where pieces pay; the same on all ranks. Takes as long and as much memory on thousands of
/// ranks as on two.
bool measure_pieces(GlooGroup& group, const GlooOptions& options) {
  constexpr int kTrials = 3;
  const auto sent = at::zeros({kMeasuredBytes}, at::kByte);
  const auto received = at::zeros({kMeasuredBytes}, at::kByte);
  const auto best_s = at::full({1}, 1e9, at::kDouble);
  auto& best = *best_s.data_ptr<double>();
  try {
    for (int trial = 0; trial < kTrials; ++trial) {
      const Stopwatch stopwatch;
      pass_on(group, options, sent, received);
      best = std::min(best, stopwatch.elapsed_s());
    }
  } catch (const std::exception& error) {
    throw CommError("backend gloo: measuring the links: " + first_line(error.what()));
  }
  sum_now(group, best_s, ReduceOp::maximum, options.timeout);
  return kMeasuredBytes / best < kLinkBytesPerSecond;
}

/// Calls `end` once all of `count` pieces have ended, with the first error of any.
GlooGroup::Done after_all(int64_t count, GlooGroup::Done end) {
  struct Pieces {
    std::mutex mutex;
    int64_t left;
    std::string error;
  };
  auto pieces = std::make_shared<Pieces>();
  pieces->left = count;
  return [pieces, end = std::move(end)](const std::string& error) {
    std::unique_lock lock(pieces->mutex);
    if (pieces->error.empty()) pieces->error = error;
    if (--pieces->left > 0) return;
    lock.unlock();
    end(pieces->error);
  };
}

at::Tensor as_bytes(const at::Tensor& tensor) {
  return at::from_blob(const_cast<void*>(tensor.const_data_ptr()), {byte_count(tensor)}, at::kByte);
}

/// What a Gloo communicator shares with its operations in flight, which may outlive it.
class GlooState : public std::enable_shared_from_this<GlooState> {
 public:
  GlooState(const GlooOptions& options, const std::string& prefix)
      : options_(options), prefix_(prefix), group_(connect(options, prefix)) {
    crash_guard_ = catch_gloo_crashes(
        [cause = options.cause](const std::string& error) { cause->suspect(first_line(error)); });
  }

  const GlooOptions& options() const noexcept { return options_; }

  /// Collective; blocks.
  void choose_pieces() {
    if (options_.size > 1 && !options_.deterministic && !options_.in_pieces) {
      options_.in_pieces = measure_pieces(*group_, options_);
    }
  }
  const std::string& prefix() const noexcept { return prefix_; }
  GlooGroup& group() const noexcept { return *group_; }

  /// Counts `operation` as being in flight, and keeps its tensors, until the end is called.
  GlooGroup::Done ending(const Operation& operation, const CompletionPtr& completion) {
    const std::lock_guard lock(mutex_);
    ++in_flight_;
    return [operation, completion, self = shared_from_this()](const std::string& error) {
      if (error.empty()) {
        completion->complete();
      } else {
        self->options_.cause->suspect(completion->full_name() + ": " + first_line(error));
      }
      self->ended();
    };
  }

  /// Runs a collective that is made of messages, on the one thread of all such.
  void run_schedule(const Operation& operation, const CompletionPtr& completion) {
    run(schedule_of(operation), completion);
  }

  /// Ends the threads of Gloo and of this object, once nothing is in flight: the last reference to
  /// this may go on one of them, which cannot wait for itself.
  void close() {
    sends_.reset();
    group_.reset();
  }

  /// False where operations are still in flight after a moment.
  bool wait_idle() {
    std::unique_lock lock(mutex_);
    return idle_.wait_for(lock, options_.cause->failed() ? std::chrono::seconds(0) : kIdleLimit,
                          [this] { return in_flight_ == 0; });
  }

 private:
  static std::shared_ptr<GlooGroup> connect(const GlooOptions& options, const std::string& prefix) {
    if (options.size == 1) return nullptr;
    return make_gloo_group({.rank = options.rank,
                            .size = options.size,
                            .address = options.address,
                            .store = options.store,
                            .prefix = prefix,
                            .timeout = options.timeout});
  }

  Schedule schedule_of(const Operation& operation) const {
    const int rank = options_.rank;
    const int size = options_.size;
    if (operation.kind == OperationKind::all_to_all) {
      return announced_exchange(operation, rank, size, kExchangeTuning);
    }
    const auto type = operation.output.scalar_type();
    const bool by_owners = options_.deterministic || needs_owner(type, false);
    if (by_owners && reduces(operation)) return owner_schedule(operation, rank, size, kTuning);
    if (operation.kind == OperationKind::allreduce) {
      const auto bytes = byte_count(operation.output);
      const bool few = size <= kTuning.few_ranks;
      const auto make = few ? owner_schedule : sum_schedule(operation.kind, bytes, size, kTuning);
      return make(operation, rank, size, kTuning);
    }
    return ring_schedule(operation, rank, size, kTuning);
  }

  void run(Schedule schedule, const CompletionPtr& completion) {
    const auto run =
        std::make_shared<GlooScheduleRun>(group_, std::move(schedule), kTuning, completion);
    std::promise<void> sent;
    auto sends_done = sent.get_future();
    sends_->add([run, sent = std::make_shared<std::promise<void>>(std::move(sent))] {
      try {
        run->run_sends();
        sent->set_value();
      } catch (...) {
        sent->set_exception(std::current_exception());
      }
    });
    try {
      run->run_receives();
      sends_done.get();
    } catch (...) {
      keep_to_the_end(run);  // Gloo may still write to what it holds
      throw;
    }
  }

  void ended() {
    const std::lock_guard lock(mutex_);
    --in_flight_;
    idle_.notify_all();
  }

  GlooOptions options_;
  std::string prefix_;
  std::shared_ptr<GlooGroup> group_;
  std::shared_ptr<void> crash_guard_;
  /// Waits for what schedules have sent.
  std::unique_ptr<JobQueue> sends_ = std::make_unique<JobQueue>(1);
  std::mutex mutex_;
  std::condition_variable idle_;
  int in_flight_ = 0;
};

class GlooCommunicator final : public Communicator {
 public:
  explicit GlooCommunicator(std::shared_ptr<GlooState> state)
      : Communicator(state->options().rank, state->options().size, state->options().timeout,
                     state->options().cause),
        state_(std::move(state)) {}

  /// Gloo's threads cannot be told to stop waiting for a peer: after a failure, and where an
  /// operation is still in flight, they are left behind.
  ~GlooCommunicator() override {
    if (first_cause()->is_copy()) {
      keep_to_the_end(std::move(state_));
      return;
    }
    if (state_->wait_idle() && !first_cause()->failed()) {
      state_->close();
    } else {
      schedules_.abandon();
      messages_.abandon();
      keep_to_the_end(state_);
    }
  }

 private:
  Work do_start(Operation operation) override {
    if (size() == 1) return complete_alone(operation);
    check_on_cpu(operation, backend());
    auto completion = std::make_shared<Completion>(operation, rank(), size(), first_cause());
    auto end = state_->ending(operation, completion);
    launch(std::move(operation), completion, std::move(end));
    return Work(std::move(completion));
  }

  void launch(Operation operation, const CompletionPtr& completion, GlooGroup::Done end) {
    auto& group = state_->group();
    const auto timeout = operation.timeout;
    switch (operation.kind) {
      case OperationKind::allreduce:
        if (state_->options().deterministic || !gloo_sums(operation.output, size())) break;
        return allreduce_in_pieces(operation, std::move(end));
      case OperationKind::broadcast:
        return group.broadcast(as_bytes(operation.output), operation.peer, timeout, std::move(end));
      case OperationKind::barrier:
        return group.barrier(timeout, std::move(end));
      case OperationKind::send:
        return wait_for(group.send(as_bytes(operation.input), operation.peer, operation.tag),
                        completion, std::move(end));
      case OperationKind::receive:
        return wait_for(group.receive(as_bytes(operation.output), operation.peer, operation.tag),
                        completion, std::move(end));
      default:
        break;
    }
    launch_schedule(std::move(operation), completion, std::move(end));
  }

  void allreduce_in_pieces(const Operation& operation, GlooGroup::Done end) {
    const auto values = operation.output.detach().view({-1});
    const bool in_pieces = state_->options().in_pieces.value_or(false);
    const auto pieces = byte_count(values) / piece_bytes(size());
    const auto count = in_pieces ? std::max<int64_t>(pieces, 1) : 1;
    const auto length = (values.numel() + count - 1) / count;
    const auto ended = after_all(count, std::move(end));
    for (int64_t first = 0; first < values.numel(); first += length) {
      const auto piece = values.narrow(0, first, std::min(length, values.numel() - first));
      state_->group().allreduce(piece, operation.reduce, operation.timeout, ended);
    }
  }

  void launch_schedule(Operation operation, const CompletionPtr& completion, GlooGroup::Done end) {
    schedules_.add(
        [state = state_, operation = std::move(operation), completion, end = std::move(end)] {
          try {
            state->run_schedule(operation, completion);
          } catch (const std::exception& error) {
            return end(error.what());
          }
          end({});
        });
  }

  void wait_for(std::shared_ptr<GlooMessage> message, const CompletionPtr& completion,
                GlooGroup::Done end) {
    messages_.add([message = std::move(message), completion, end = std::move(end)] {
      try {
        message->wait(completion->left());
      } catch (const std::exception& error) {
        return end(error.what());
      }
      end({});
    });
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    const auto part = agree_on_split(*this, color, key);
    const auto split = splits_++;
    if (color < 0) return nullptr;
    auto options = state_->options();
    options.rank = part.rank;
    options.size = part.size;
    options.timeout = timeout();
    return std::make_unique<GlooCommunicator>(std::make_shared<GlooState>(
        options, detail::join(state_->prefix(), split, ".", color, "/")));
  }

  std::string_view do_backend() const noexcept override { return "gloo"; }

  std::shared_ptr<GlooState> state_;
  int64_t splits_ = 0;
  JobQueue schedules_{1};
  JobQueue messages_{kMessageThreads};
};

}  // namespace

std::unique_ptr<Communicator> make_gloo_communicator(const GlooOptions& options) {
  ISOBAR_CHECK(options.size <= kMostGlooRanks, "backend gloo on rank ", options.rank, " of ",
               options.size, ": it connects every rank with every other, wanted at most ",
               kMostGlooRanks, " ranks; start them by mpirun or srun --mpi=pmix, so that CPU ",
               "tensors go by MPI, beside NCCL too");
  auto state = std::make_shared<GlooState>(options, "isobar/");
  state->choose_pieces();
  return std::make_unique<GlooCommunicator>(std::move(state));
}

}  // namespace isobar
