// SPDX-License-Identifier: Apache-2.0
#include "ddp/buffer_sync.hpp"

#include "ddp/broadcast.hpp"
#include "ddp/tensor_bits.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/comm/census.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/hash.hpp>
#include <isobar/core/stopwatch.hpp>
#include <torch/nn/module.h>

#include <algorithm>

namespace isobar {
namespace {

std::vector<std::string> buffer_layouts(const torch::nn::Module& module) {
  std::vector<std::string> layouts;
  for (const auto& item : module.named_buffers()) {
    layouts.push_back(detail::join("'", item.key(), "' is ", describe_layout(item.value())));
  }
  return layouts;
}

std::vector<std::string> buffer_names(const torch::nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& item : module.named_buffers()) names.push_back(item.key());
  return names;
}

// Broadcasts are packed, so that two buffers that traded sizes on one rank would fill each other.
BucketMark mark_of(const torch::nn::Module& module) {
  uint64_t hash = 0;
  for (const auto& layout : buffer_layouts(module)) {
    hash = splitmix64(hash + kSplitmix64Step) ^ fnv1a(layout);
  }
  return {.bucket = BucketMark::kBuffers, .set = static_cast<uint32_t>(splitmix64(hash) >> 32)};
}

}  // namespace

BufferSync::BufferSync(const torch::nn::Module& module, Communicator& world, Communicator& data,
                       BufferPolicy policy)
    : module_(module),
      world_(world),
      data_(data),
      policy_(policy),
      names_(buffer_names(module)),
      layouts_(buffer_layouts(module)) {
  run_agreed(world, [&] {
    ISOBAR_CHECK(policy.every > 0, "DataParallel: rank ", world.rank(),
                 ": buffers.every must be positive, got ", policy.every);
  });
  require_equal(world, "DataParallel: buffer policy",
                {detail::join("action ", static_cast<int>(policy.action)),
                 detail::join("every ", policy.every)});
}

// Their layout travels with every collective; that a buffer has got another one is looked up only
// where ranks differ.
void BufferSync::broadcast() {
  if (data_.size() == 1) return;
  try {
    broadcast_coalesced(data_, module_.buffers(), 0, mark_of(module_));
  } catch (const CommError& error) {
    const auto now = buffer_layouts(module_);
    const auto [is, was] = std::mismatch(now.begin(), now.end(), layouts_.begin(), layouts_.end());
    if (is == now.end() && was == layouts_.end()) {
      throw CommError(
          detail::join("DataParallel: copying buffers to rank ", world_.rank(),
                       ", whose own have the sizes that they had when wrapped: ", error.what()));
    }
    throw CommError(detail::join(
        "DataParallel: copying buffers to rank ", world_.rank(), ", where buffer ",
        is == now.end() ? "'" + names_[was - layouts_.begin()] + "' is gone" : *is,
        ", and when the module was wrapped ", was == layouts_.end() ? "there was none" : *was,
        "; resize buffers on all ranks alike: ", error.what()));
  }
}

void BufferSync::end_step(int64_t step) {
  if (policy_.action == BufferAction::none || step % policy_.every != 0) return;
  const CollectiveAsker asker("buffers");
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
  std::vector<NamedHash> mine;
  run_agreed(world_, [&] { mine = hashes(); });
  if (mine.empty()) return;
  require_same_hashes(
      world_, data_, mine, [&](const std::string& name, const std::string& difference) {
        return detail::join("DataParallel: step ", step, ": buffer '", name, "' of ", difference,
                            "; find what changes it on one rank only, or let buffers.action "
                            "broadcast it");
      });
}

std::vector<NamedHash> BufferSync::hashes() const {
  const auto names = buffer_names(module_);
  ISOBAR_CHECK(names == names_, "DataParallel: rank ", world_.rank(), " has ", names.size(),
               " buffers, ", names_.size(),
               " when the module was wrapped, or others; register "
               "buffers before that");
  if (world_.size() == 1) return {};
  std::vector<NamedHash> result;
  for (const auto& item : module_.named_buffers()) {
    result.push_back({item.key(), hash_of(item.value())});
  }
  return result;
}

}  // namespace isobar
