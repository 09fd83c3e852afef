// SPDX-License-Identifier: Apache-2.0
// One thread a communicator issues everything that goes over its three parts (flat, node, across),
// in the order of the calls. That order is the same on all ranks: the blocks of a sum follow from
// its size, and the way of each operation from options or from times that an allreduce has made
// equal. A second thread waits for what goes flat, so that the first can issue the next. Inside a
// sum the share of one block is under way between nodes while the next block is added inside them.
#include "comm/levels/levels.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/core/stopwatch.hpp>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <future>
#include <map>
#include <utility>
#include <vector>

#include "comm/backend/communicator_access.hpp"
#include "comm/backend/completion.hpp"
#include "comm/backend/job_queue.hpp"
#include "comm/backend/operation_facts.hpp"
#include "comm/backend/tensor_bytes.hpp"
#include "comm/levels/level_choice.hpp"
#include "comm/shared_memory/shared_memory.hpp"

namespace isobar {
namespace {

/// One block adds up inside the nodes while the one before it is under way between them.
constexpr int64_t kBlockBytes = 4 << 20;

/// Where the ranks of a communicator are: the nodes by first appearance, and each rank's number on
/// its own.
struct NodeMap {
  std::vector<int> node_of;
  std::vector<int> local_rank;
  int nodes = 0;
  int ranks_per_node = 0;

  explicit NodeMap(const std::vector<std::string>& identities) {
    std::map<std::string, std::pair<int, int>> known;
    for (const auto& identity : identities) {
      auto& [node, ranks] =
          known.try_emplace(identity, static_cast<int>(known.size()), 0).first->second;
      node_of.push_back(node);
      local_rank.push_back(ranks++);
    }
    nodes = static_cast<int>(known.size());
    for (const auto& [identity, entry] : known) {
      if (entry.second * nodes == static_cast<int>(identities.size()))
        ranks_per_node = entry.second;
    }
  }

  /// Several nodes, with the same number of ranks on each, and that not one.
  bool has_two_levels() const { return nodes > 1 && ranks_per_node > 1; }
};

/// The communicators of a two-level allreduce. Used by one thread.
struct LevelCommunicators {
  std::unique_ptr<Communicator> flat;
  std::unique_ptr<Communicator> node;
  std::unique_ptr<Communicator> across;
};

at::Tensor piece(const at::Tensor& flat, int64_t first, int64_t count) {
  return flat.narrow(0, first, count);
}

/// Sums `values` (one-dimensional) in two levels, in place. What the number of ranks on a node does
/// not divide, less than one element a rank, goes over all ranks.
class TwoLevelAllreduce {
 public:
  TwoLevelAllreduce(LevelCommunicators& parts, const Operation& operation, at::Tensor values)
      : parts_(parts),
        op_(operation.reduce),
        mark_(operation.mark),
        values_(std::move(values)),
        ranks_(parts.node->size()),
        whole_(values_.numel() / ranks_ * ranks_),
        block_(std::max<int64_t>(kBlockBytes / (values_.element_size() * ranks_), 1) * ranks_) {}

  /// Inside and across overlap by one block: while block k is under way between nodes, block k + 1
  /// is added inside. Each communicator sees the same order on all its ranks.
  void run() {
    for (int64_t first = 0; first < whole_; first += block_) {
      add_inside(first, std::min(block_, whole_ - first));
      if (under_way_.size() > 1) hand_out();
    }
    while (!under_way_.empty()) hand_out();
    if (whole_ < values_.numel()) {
      const auto rest = piece(values_, whole_, values_.numel() - whole_);
      parts_.flat->allreduce(rest, {.op = op_, .mark = mark_}).wait();
    }
  }

 private:
  struct Block {
    at::Tensor values;
    at::Tensor share;
    Work work;
  };

  void add_inside(int64_t first, int64_t count) {
    Block block{.values = piece(values_, first, count),
                .share = at::empty({count / ranks_}, values_.options()),
                .work = {}};
    parts_.node->reduce_scatter(block.share, block.values, {.op = op_, .mark = mark_}).wait();
    block.work = parts_.across->allreduce(block.share, {.op = op_, .mark = mark_});
    under_way_.push_back(std::move(block));
  }

  void hand_out() {
    auto& block = under_way_.front();
    block.work.wait();
    parts_.node->all_gather(block.values, block.share, mark_).wait();
    under_way_.pop_front();
  }

  LevelCommunicators& parts_;
  ReduceOp op_;
  BucketMark mark_;
  at::Tensor values_;
  int64_t ranks_;
  int64_t whole_;
  int64_t block_;
  std::deque<Block> under_way_;
};

/// What the communicator shares with its jobs, which may outlive it.
struct LevelsState {
  LevelCommunicators parts;
  LevelsOptions options;
  LevelChoice choice;
  /// Waits for what goes over all ranks at once.
  JobQueue flat_ends{1};

  void start(const Operation& operation, const CompletionPtr& completion) {
    const auto bytes = byte_count(operation.output);
    const bool chooses = can_choose(operation);
    const auto way = chooses ? way_of(bytes) : LevelChoice::Way::flat;
    if (!chooses || (way == LevelChoice::Way::flat && !is_trial(bytes))) {
      return start_flat(operation, completion);
    }
    const Stopwatch stopwatch;
    way == LevelChoice::Way::flat ? BackendAccess::start(*parts.flat, operation).wait()
                                  : run_two_levels(operation);
    if (is_trial(bytes)) choice.add(bytes, slowest(stopwatch.elapsed_s()));
    completion->complete();
  }

 private:
  bool can_choose(const Operation& operation) const {
    if (operation.kind != OperationKind::allreduce) return false;
    const auto& values = operation.output;
    return !needs_owner(values.scalar_type(), false) && values.numel() >= parts.node->size();
  }

  LevelChoice::Way way_of(int64_t bytes) const {
    return options.levels == Levels::node ? LevelChoice::Way::node : choice.next(bytes);
  }

  bool is_trial(int64_t bytes) const {
    return options.levels == Levels::automatic && choice.is_trial(bytes);
  }

  double slowest(double seconds) {
    auto time = at::full({1}, seconds, at::kDouble);
    parts.flat->allreduce(time, ReduceOp::maximum).wait();
    return *time.const_data_ptr<double>();
  }

  void run_two_levels(const Operation& operation) {
    for (auto* comm : {parts.node.get(), parts.across.get(), parts.flat.get()}) {
      comm->set_timeout(operation.timeout);
    }
    TwoLevelAllreduce(parts, operation, operation.output.detach().view({-1})).run();
  }

  void start_flat(const Operation& operation, const CompletionPtr& completion) {
    // The job may outlive this object: it has what it needs, which is not this.
    flat_ends.add([work = BackendAccess::start(*parts.flat, operation), completion,
                   cause = options.cause]() mutable { end(work, *completion, *cause); });
  }

  static void end(Work& work, Completion& completion, FirstCause& cause) {
    try {
      work.wait();
      completion.complete();
    } catch (const std::exception& error) {
      cause.suspect(error.what());
    }
  }
};

class LevelledCommunicator final : public Communicator {
 public:
  explicit LevelledCommunicator(std::shared_ptr<LevelsState> state)
      : Communicator(state->parts.flat->rank(), state->parts.flat->size(),
                     state->parts.flat->timeout(), state->options.cause),
        state_(std::move(state)) {}

 private:
  /// Everything that goes over the flat communicator is issued by one thread, in one order.
  Work do_start(Operation operation) override {
    auto completion = std::make_shared<Completion>(operation, rank(), size(), first_cause());
    jobs_.add([state = state_, operation = std::move(operation), completion] {
      try {
        state->start(operation, completion);
      } catch (const std::exception& error) {
        state->options.cause->suspect(error.what());
      }
    });
    return Work(std::move(completion));
  }

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    auto made = std::make_shared<std::promise<std::unique_ptr<Communicator>>>();
    auto part = made->get_future();
    jobs_.add([state = state_, made, color, key] {
      try {
        made->set_value(state->parts.flat->split(color, key));
      } catch (...) {
        made->set_exception(std::current_exception());
      }
    });
    auto flat = part.get();
    return flat ? with_levels(std::move(flat), state_->options) : nullptr;
  }

  std::string_view do_backend() const noexcept override { return state_->parts.flat->backend(); }

  std::shared_ptr<LevelsState> state_;
  JobQueue jobs_{1};
};

std::unique_ptr<Communicator> make_node_communicator(Communicator& ranks_of_node,
                                                     const LevelsOptions& options) {
  // The first rank's process and a number of its own make a name that nobody else uses.
  static std::atomic<int> count{0};
  const auto mine = detail::join(options.token, " ", getpid(), " ", count++);
  const auto first = gather_texts(ranks_of_node, mine).front();
  return make_shared_memory_communicator({.name = detail::join("isobar-", fnv1a(first)),
                                          .rank = ranks_of_node.rank(),
                                          .size = ranks_of_node.size(),
                                          .timeout = ranks_of_node.timeout(),
                                          .cause = options.cause});
}

}  // namespace

Levels levels_by_name(const std::string& name) {
  if (name == "flat") return Levels::flat;
  if (name == "node") return Levels::node;
  ISOBAR_CHECK(name == "auto", "make_communicator: no levels '", name,
               "'; choose auto, flat or node");
  return Levels::automatic;
}

std::unique_ptr<Communicator> with_levels(std::unique_ptr<Communicator> flat,
                                          const LevelsOptions& options) {
  if (options.levels == Levels::flat || flat->size() == 1) return flat;
  const NodeMap map(gather_texts(*flat, options.node));
  if (!map.has_two_levels()) return flat;
  const int rank = flat->rank();
  const auto ranks_of_node = flat->split(map.node_of[rank], rank);
  const auto state = std::make_shared<LevelsState>();
  state->options = options;
  state->parts.node = make_node_communicator(*ranks_of_node, options);
  state->parts.across = flat->split(map.local_rank[rank], rank);
  state->parts.flat = std::move(flat);
  return std::make_unique<LevelledCommunicator>(state);
}

}  // namespace isobar
