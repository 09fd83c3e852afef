// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/data_parallel.hpp>

#include "ddp/broadcast.hpp"
#include "ddp/buffer_sync.hpp"
#include "ddp/tensor_bits.hpp"

#include <isobar/comm/agreement.hpp>
#include <isobar/core/error.hpp>
#include <torch/nn/module.h>

#include <algorithm>
#include <set>

namespace isobar {
namespace {

std::vector<NamedParameter> trainable_parameters(const torch::nn::Module& module,
                                                 const DataParallelOptions& options) {
  std::vector<NamedParameter> result;
  std::set<const void*> known;  // a tensor under two names is one parameter, under the first
  for (const auto& item : module.named_parameters()) {
    if (!item.value().requires_grad()) continue;
    if (!known.insert(item.value().unsafeGetTensorImpl()).second) continue;
    const auto reduction =
        options.reduction ? options.reduction(item.key()) : Reduction::replicated;
    result.push_back({item.key(), item.value(), reduction});
  }
  return result;
}

std::vector<std::string> describe_rest(const torch::nn::Module& module, bool buffers) {
  std::vector<std::string> lines;
  const auto add = [&](const std::string& kind, const auto& item) {
    lines.push_back(detail::join(kind, " ", item.key(), " ", describe_layout(item.value())));
  };
  if (buffers) {
    for (const auto& item : module.named_buffers()) add("buffer", item);
  } else {
    for (const auto& item : module.named_parameters()) {
      if (!item.value().requires_grad()) add("frozen parameter", item);
    }
  }
  return lines;
}

/// What the constructor copies from rank 0 must be something that it can copy.
void check_kinds(const torch::nn::Module& module) {
  const auto check = [](std::string_view kind, const auto& item) {
    const auto obstacle = obstacle_to_copying(item.value());
    ISOBAR_CHECK(obstacle.empty(), "DataParallel: ", kind, " '", item.key(), "' ", obstacle,
                 ", and cannot be copied from rank 0; keep it as a member that is not registered");
  };
  for (const auto& item : module.named_parameters()) check("parameter", item);
  for (const auto& item : module.named_buffers()) check("buffer", item);
}

ReducerOptions reducer_options(const DataParallelOptions& options) {
  return {.caps = {.cap_bytes = options.bucket_cap_bytes,
                   .first_cap_bytes = options.first_bucket_cap_bytes,
                   .last_cap_bytes = options.last_bucket_cap_bytes,
                   .cap_list = options.bucket_cap_list},
          .launch = options.launch,
          .levels = options.levels,
          .compressor = options.compressor};
}

/// A data-parallel group of one averages nothing, and nobody would notice.
void check_replicas(const ProcessGrid& grid, SingleReplica single) {
  const int ranks = grid.world().size();
  ISOBAR_CHECK(ranks == 1 || grid.replicas() > 1 || single == SingleReplica::allowed,
               "DataParallel: all ", ranks,
               " ranks belong to one model, so that no other replica shares the samples; give "
               "ProcessGrid fewer ranks a model than ",
               ranks, ", or set .single_replica = SingleReplica::allowed");
}

}  // namespace

struct DataParallel::Impl {
  Impl(torch::nn::Module& module, Communicator& world, Communicator& data,
       std::unique_ptr<Reducer> made, const DataParallelOptions& options)
      : module(module),
        world(world),
        data(data),
        reducer(std::move(made)),
        buffers(module, world, data, options.buffers) {
    run_agreed(world, [&] { check_kinds(module); });
    require_equal(world, "DataParallel: frozen parameters", describe_rest(module, false));
    require_equal(data, "DataParallel: buffers", describe_rest(module, true));
    broadcast_parameters();
    buffers.broadcast();
  }

  void broadcast_parameters();

  torch::nn::Module& module;
  Communicator& world;
  Communicator& data;
  std::unique_ptr<Reducer> reducer;
  BufferSync buffers;
  int64_t steps = 0;
};

void DataParallel::Impl::broadcast_parameters() {
  std::vector<at::Tensor> replicated, sharded;
  for (const auto& parameter : reducer->parameters()) {
    auto& list = parameter.reduction == Reduction::sharded ? sharded : replicated;
    list.push_back(parameter.tensor);
  }
  for (const auto& tensor : module.parameters()) {
    if (!tensor.requires_grad()) replicated.push_back(tensor);
  }
  broadcast_coalesced(world, replicated, 0);
  broadcast_coalesced(data, sharded, 0);
}

DataParallel::DataParallel(torch::nn::Module& module, Communicator& world,
                           const DataParallelOptions& options) {
  auto reducer = std::make_unique<Reducer>(trainable_parameters(module, options), world,
                                           reducer_options(options));
  impl_ = std::make_unique<Impl>(module, world, world, std::move(reducer), options);
}

DataParallel::DataParallel(torch::nn::Module& module, const ProcessGrid& grid,
                           const DataParallelOptions& options) {
  run_agreed(grid.world(), [&] { check_replicas(grid, options.single_replica); });
  auto reducer = std::make_unique<Reducer>(trainable_parameters(module, options), grid,
                                           reducer_options(options));
  impl_ = std::make_unique<Impl>(module, grid.world(), grid.data(), std::move(reducer), options);
}

DataParallel::~DataParallel() = default;

void DataParallel::zero_grad() { impl_->reducer->zero_grad(); }

void DataParallel::finish() {
  impl_->reducer->finish();
  impl_->buffers.end_step(++impl_->steps);
}

void DataParallel::finish(const BucketCallback& on_bucket) {
  impl_->reducer->finish(on_bucket);
  impl_->buffers.end_step(++impl_->steps);
}

AccumulationScope DataParallel::accumulate() { return impl_->reducer->accumulate(); }

Reducer& DataParallel::reducer() noexcept { return *impl_->reducer; }

const BufferCounters& DataParallel::buffer_counters() const noexcept {
  return impl_->buffers.counters();
}

}  // namespace isobar
