// SPDX-License-Identifier: Apache-2.0
#include <isobar/train/sharded_part.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <numeric>
#include <utility>

namespace isobar {
namespace {

std::vector<int64_t> with_rows(at::IntArrayRef sizes, int64_t rows) {
  auto result = sizes.vec();
  result[0] = rows;
  return result;
}

/// Rank 0's `counts[r]` rows of every rank r, one after another; elsewhere none.
at::Tensor gather(Communicator& group, const at::Tensor& own, const std::vector<int64_t>& counts) {
  std::vector<int64_t> sent(group.size(), 0);
  sent[0] = own.size(0);
  const auto received = group.rank() == 0 ? counts : std::vector<int64_t>(group.size(), 0);
  const int64_t rows = std::accumulate(received.begin(), received.end(), int64_t{0});
  auto all = at::empty(with_rows(own.sizes(), rows), own.options());
  group.all_to_all(all, own, received, sent).wait();
  return all;
}

std::vector<int64_t> counts_of(Communicator& group, int64_t own) {
  auto counts = at::empty({group.size()}, at::kLong);
  group.all_gather(counts, at::full({1}, own, at::kLong)).wait();
  const auto* values = counts.const_data_ptr<int64_t>();
  return {values, values + counts.numel()};
}

/// All rows of a tensor, in their order, on the first rank of the group; undefined elsewhere.
at::Tensor whole_tensor(Communicator& group, const at::Tensor& own, const ShardedRows& sharded) {
  const auto counts = counts_of(group, sharded.rows.numel());
  const auto rows = gather(group, sharded.rows.contiguous(), counts);
  const auto values = gather(group, own.detach().cpu().contiguous(), counts);
  if (group.rank() != 0) return {};
  // Rows are copied, not added up, so that every bit comes through.
  return at::empty(with_rows(own.sizes(), sharded.total), values.options())
      .index_copy_(0, rows, values);
}

at::Tensor own_rows(const std::string& part, const std::string& key, const at::Tensor& saved,
                    const ShardedRows& sharded) {
  if (saved.dim() > 0 && saved.size(0) == sharded.total) {
    return saved.index_select(0, sharded.rows.to(saved.device()));
  }
  throw DataError(detail::join("checkpoint part '", part, "': '", key, "' has shape ",
                               saved.sizes(), ", the model has ", sharded.total,
                               " rows on all ranks together"));
}

void put_scalars(StateDict& to, const StateDict& from) {
  for (const auto& [key, value] : from.scalars()) to.put_scalar(key, value);
}

}  // namespace

ShardedPart::ShardedPart(Stateful& part, RowsOf rows_of, const ProcessGrid& grid)
    : part_(part), rows_of_(std::move(rows_of)), grid_(grid) {}

std::optional<ShardedRows> ShardedPart::rows_of(const std::string& key) const {
  if (!rows_of_) return std::nullopt;
  if (auto own = rows_of_(key)) return own;
  const auto dot = key.rfind('.');
  return dot == std::string::npos ? std::nullopt : rows_of_(key.substr(0, dot));
}

void ShardedPart::collect() {
  if (!rows_of_) return;
  c10::NoGradGuard no_grad;
  collected_.reset();
  if (grid_.data().rank() != 0) return;
  StateDict own, whole;
  part_.save(own);
  for (const auto& [key, tensor] : own.tensors()) {
    const auto sharded = rows_of(key);
    const auto all = sharded ? whole_tensor(grid_.model(), tensor, *sharded) : tensor;
    if (all.defined()) whole.put(key, all);
  }
  put_scalars(whole, own);
  if (grid_.world().rank() == 0) collected_ = std::move(whole);
}

void ShardedPart::save(StateDict& state) const {
  if (!rows_of_) {
    part_.save(state);
    return;
  }
  ISOBAR_CHECK(collected_, "checkpoint part '", name(),
               "' is sharded: call collect() on every "
               "rank and save on rank 0 of the world, this is rank ",
               grid_.world().rank());
  for (const auto& [key, tensor] : collected_->tensors()) state.put(key, tensor);
  put_scalars(state, *collected_);
}

void ShardedPart::load(const StateDict& state, int version) {
  c10::NoGradGuard no_grad;
  StateDict own;
  for (const auto& [key, tensor] : state.tensors()) {
    const auto sharded = rows_of(key);
    own.put(key, sharded ? own_rows(name(), key, tensor, *sharded) : tensor);
  }
  put_scalars(own, state);
  part_.load(own, version);
}

}  // namespace isobar
