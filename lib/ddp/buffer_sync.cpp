// SPDX-License-Identifier: Apache-2.0
#include "ddp/buffer_sync.hpp"

#include "ddp/broadcast.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/core/stopwatch.hpp>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <torch/nn/module.h>

namespace isobar {
namespace {

std::vector<std::string> buffer_names(const torch::nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& item : module.named_buffers()) names.push_back(item.key());
  return names;
}

/// Of type, shape and bits: a buffer reassigned to another shape differs too.
int64_t hash_of(const at::Tensor& buffer) {
  const auto bits = buffer.detach().cpu().contiguous();
  const auto kind = detail::join(at::toString(bits.scalar_type()), bits.sizes());
  const std::string_view bytes(static_cast<const char*>(bits.const_data_ptr()), bits.nbytes());
  return static_cast<int64_t>(splitmix64(fnv1a(kind)) ^ fnv1a(bytes));
}

std::string listed(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += detail::join(i > 0 ? ", " : "", ranks[i]);
  return text;
}

}  // namespace

BufferSync::BufferSync(const torch::nn::Module& module, Communicator& world, Communicator& data,
                       BufferPolicy policy)
    : module_(module), world_(world), data_(data), policy_(policy), names_(buffer_names(module)) {
  run_agreed(world, [&] {
    ISOBAR_CHECK(policy.every > 0, "DataParallel: rank ", world.rank(),
                 ": buffers.every must be positive, got ", policy.every);
  });
  require_equal(world, "DataParallel: buffer policy",
                {detail::join("action ", static_cast<int>(policy.action)),
                 detail::join("every ", policy.every)});
}

void BufferSync::broadcast() { broadcast_coalesced(data_, module_.buffers(), 0); }

void BufferSync::end_step(int64_t step) {
  if (policy_.action == BufferAction::none || step % policy_.every != 0) return;
  const Stopwatch clock;
  if (policy_.action == BufferAction::broadcast) {
    broadcast();
    ++counters_.broadcasts;
  } else {
    compare(step);
    ++counters_.comparisons;
  }
  counters_.seconds += clock.elapsed_s();
}

void BufferSync::compare(int64_t step) {
  std::vector<int64_t> mine;
  run_agreed(world_, [&] { mine = hashes(); });
  if (mine.empty()) return;
  const auto count = static_cast<int64_t>(mine.size());
  auto gathered = at::empty({count * data_.size()}, at::kLong);
  data_.all_gather(gathered, at::tensor(mine, at::kLong)).synchronize();
  const auto* first = gathered.const_data_ptr<int64_t>();
  const std::vector<int64_t> all(first, first + gathered.numel());
  // Only the ranks of one data-parallel group see a difference in it: the world is told.
  run_agreed(world_, [&] { require_same(all, step); });
}

std::vector<int64_t> BufferSync::hashes() const {
  const auto names = buffer_names(module_);
  ISOBAR_CHECK(names == names_, "DataParallel: rank ", world_.rank(), " has ", names.size(),
               " buffers, ", names_.size(),
               " when the module was wrapped, or others; register "
               "buffers before that");
  std::vector<int64_t> result;
  for (const auto& buffer : module_.buffers()) result.push_back(hash_of(buffer));
  return result;
}

void BufferSync::require_same(const std::vector<int64_t>& all, int64_t step) const {
  const int model_size = world_.size() / data_.size();
  const int first = world_.rank() % model_size;
  for (size_t b = 0; b < names_.size(); ++b) {
    std::vector<int> others;
    for (int replica = 1; replica < data_.size(); ++replica) {
      if (all[replica * names_.size() + b] == all[b]) continue;
      others.push_back(first + replica * model_size);
    }
    ISOBAR_CHECK(others.empty(), "DataParallel: step ", step, ": buffer '", names_[b], "' of ",
                 listed(others), " of ", world_.size(), " differs from that of rank ", first,
                 "; find what changes it on one rank only, or let buffers.action broadcast it");
  }
}

}  // namespace isobar
