// SPDX-License-Identifier: Apache-2.0
// collect() is called on every rank between steps, before rank 0 saves. It is collective over
// data-parallel and model-parallel groups, parameter after parameter in the reducer's order. Which
// parameters have a residual depends on a rank's share of the gradients: the ranks of a model agree
// on that first (columns_of), so that none leaves out a sum that the others wait in.
//
// What is saved is whole and in units of the updates that it has yet to give, so that other numbers
// of ranks, replicas and buckets load it and cut out their own parts.
#include <isobar/train/compressor_part.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <utility>

namespace isobar {
namespace {

const std::string kResidual = ".residual";
const std::string kFirst = ".first";

bool ends_with(const std::string& key, const std::string& end) {
  return key.size() > end.size() && key.compare(key.size() - end.size(), end.size(), end) == 0;
}

/// Where in the gradient the residual of this parameter begins.
int64_t first_of(const CompressorState& state, const std::string& parameter) {
  const auto found = state.counts.find(parameter + kFirst);
  return found == state.counts.end() ? 0 : found->second;
}

template <typename State>  // const or not
auto* find_tensor_of(State& state, const std::string& key) {
  const auto found = std::find_if(state.tensors.begin(), state.tensors.end(),
                                  [&](const auto& named) { return named.first == key; });
  return found == state.tensors.end() ? nullptr : &found->second;
}

int64_t real_elements(const at::Tensor& tensor) {
  return (tensor.is_complex() ? 2 : 1) * tensor.numel();
}

/// Real numbers in an entry of a parameter's first dimension.
int64_t elements_of_row(const at::Tensor& parameter) {
  const int64_t rows = parameter.size(0);
  return rows == 0 ? 0 : real_elements(parameter) / rows;
}

int64_t row_length(const at::Tensor& residual) {
  return residual.dim() < 2 || residual.size(0) == 0 ? 1 : residual.numel() / residual.size(0);
}

/// Zeros for all of a parameter's residual, in the type that compressors keep it in.
at::Tensor whole_residual(const at::Tensor& tensor, int64_t columns) {
  const auto real = c10::toRealValueType(tensor.scalar_type());
  const auto type = c10::elementSize(real) == 2 ? at::kFloat : real;
  return at::zeros({real_elements(tensor) / columns, columns}, tensor.options().dtype(type));
}

}  // namespace

CompressorPart::CompressorPart(std::shared_ptr<Compressor> compressor, const Reducer& reducer,
                               const ProcessGrid& grid, RowsOf rows_of)
    : compressor_(std::move(compressor)),
      reducer_(reducer),
      grid_(grid),
      rows_of_(std::move(rows_of)) {
  ISOBAR_CHECK(compressor_, "CompressorPart: there is no compressor");
  for (const auto& parameter : parameters()) {
    ISOBAR_CHECK(parameter.reduction != Reduction::sharded || grid_.model().size() == 1 ||
                     this->rows_of(parameter),
                 "CompressorPart: parameter '", parameter.name,
                 "' is sharded over a model-parallel group, and nothing says which rows a rank "
                 "owns; its residual would be one shard's");
  }
}

std::optional<ShardedRows> CompressorPart::rows_of(const NamedParameter& parameter) const {
  return rows_of_ ? rows_of_(parameter.name) : std::nullopt;
}

void CompressorPart::collect() {
  c10::NoGradGuard no_grad;
  average_residuals(*compressor_, grid_.data());
  auto state = compressor_->state();
  collected_ = grid_.model().size() == 1 ? std::move(state) : joined(state);
}

/// What one rank's residual is in units of the updates that it has yet to give. A model's ranks
/// add their gradients up before they compress the sum; of what is replicated the update is the
/// mean.
double CompressorPart::unit(const NamedParameter& parameter) const {
  return parameter.reduction == Reduction::replicated ? grid_.model().size() : 1;
}

/// By parameter, columns of the residual, which a rank without a share of it cannot know; 0 for
/// none.
at::Tensor CompressorPart::columns_of(const CompressorState& state) const {
  auto columns = at::zeros({static_cast<int64_t>(parameters().size())}, at::kLong);
  for (size_t p = 0; p < parameters().size(); ++p) {
    const auto* own = find_tensor_of(state, parameters()[p].name + kResidual);
    if (own) columns[static_cast<int64_t>(p)] = row_length(*own);
  }
  grid_.model().allreduce(columns, ReduceOp::maximum).wait();
  return columns;
}

/// What the ranks of a model have of a parameter's residual, in one tensor of so many columns.
at::Tensor CompressorPart::joined_residual(const CompressorState& share,
                                           const NamedParameter& parameter, int64_t columns) const {
  auto residual = whole_residual(parameter.tensor, columns);
  if (const auto* own = find_tensor_of(share, parameter.name + kResidual)) {
    const int64_t first = first_of(share, parameter.name);
    residual.view({-1}).narrow(0, first, own->numel()).copy_(own->reshape({-1}));
  }
  if (const auto sharded = rows_of(parameter)) {
    const auto rows = sharded->rows.to(residual.device());
    const int64_t length = elements_of_row(parameter.tensor);
    residual = at::zeros({sharded->total, length}, residual.options())
                   .index_copy_(0, rows, residual.view({rows.numel(), length}))
                   .view({-1, columns});
  }
  grid_.model().allreduce(residual).wait();
  return residual.div_(unit(parameter));
}

// Which rank has how much of a parameter depends on the bucket plan, and that on the order of
// gradients in the first step: what is saved must not.
CompressorState CompressorPart::joined(const CompressorState& share) const {
  CompressorState whole;
  for (const auto& [key, count] : share.counts) {
    if (!ends_with(key, kFirst)) whole.counts[key] = count;
  }
  const auto columns = columns_of(share);
  for (size_t p = 0; p < parameters().size(); ++p) {
    const auto& parameter = parameters()[p];
    const auto length = columns[static_cast<int64_t>(p)].item<int64_t>();
    if (length == 0) continue;
    whole.tensors.emplace_back(parameter.name + kResidual,
                               joined_residual(share, parameter, length));
    whole.counts[parameter.name + kFirst] = 0;
  }
  return whole;
}

// A residual that is not whole, or not of this parameter's shape, stays as it is, for the
// compressor to judge.
void CompressorPart::cut(CompressorState& saved) const {
  const auto wanted = compressor_->state();
  for (const auto& parameter : parameters()) {
    auto* residual = find_tensor_of(saved, parameter.name + kResidual);
    const auto* like = find_tensor_of(wanted, parameter.name + kResidual);
    if (!residual || !like || row_length(*residual) != row_length(*like)) continue;
    auto own = residual->reshape({-1});
    if (const auto sharded = rows_of(parameter)) {
      const int64_t length = elements_of_row(parameter.tensor);
      if (own.numel() != sharded->total * length) continue;
      own = own.view({sharded->total, length}).index_select(0, sharded->rows.to(own.device()));
    }
    if (own.numel() != real_elements(parameter.tensor)) continue;
    const int64_t first = first_of(wanted, parameter.name);
    const auto share = own.reshape({-1}).narrow(0, first, like->numel());
    *residual = share.view(like->sizes()) * unit(parameter);
    saved.counts[parameter.name + kFirst] = first;
  }
}

void CompressorPart::save(StateDict& state) const {
  ISOBAR_CHECK(collected_,
               "CompressorPart: call collect() on every rank before a checkpoint is saved");
  for (const auto& [key, tensor] : collected_->tensors) state.put(key, tensor);
  for (const auto& [key, count] : collected_->counts) state.put_scalar(key, count);
}

void CompressorPart::load(const StateDict& state, int) {
  CompressorState saved;
  saved.tensors = state.tensors();
  for (const auto& [key, scalar] : state.scalars()) saved.counts[key] = state.integer(key);
  cut(saved);
  compressor_->load(saved);
}

}  // namespace isobar
