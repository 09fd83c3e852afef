// SPDX-License-Identifier: Apache-2.0
#include "compress/parameter_residuals.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <string_view>

namespace isobar {
namespace {

/// Where two runs of a parameter's values overlap, the second takes the first's.
void copy_overlap(const at::Tensor& from, int64_t from_first, const at::Tensor& to,
                  int64_t to_first) {
  const int64_t begin = std::max(from_first, to_first);
  const int64_t end = std::min(from_first + from.numel(), to_first + to.numel());
  if (begin >= end) return;
  to.narrow(0, begin - to_first, end - begin)
      .copy_(from.narrow(0, begin - from_first, end - begin));
}

/// By parameter; null where this rank has none of it.
std::vector<const ParameterResidual*> by_parameter(const std::vector<ParameterResidual>& residuals,
                                                   const std::vector<NamedParameter>& parameters) {
  std::map<std::string_view, const ParameterResidual*> by_name;
  for (const auto& residual : residuals) by_name[residual.name] = &residual;
  std::vector<const ParameterResidual*> result(parameters.size());
  for (size_t p = 0; p < parameters.size(); ++p) {
    const auto found = by_name.find(parameters[p].name);
    if (found == by_name.end()) continue;
    if (parameters[p].tensor.sizes() == found->second->sizes) result[p] = found->second;
  }
  return result;
}

at::Tensor zero_residual(const at::Tensor& parameter) {
  const auto type = residual_type(c10::toRealValueType(parameter.scalar_type()));
  return at::zeros({(parameter.is_complex() ? 2 : 1) * parameter.numel()},
                   parameter.options().dtype(type).requires_grad(false));
}

}  // namespace

const at::Tensor* saved_tensor(const CompressorState& state, const std::string& key) {
  for (const auto& [name, tensor] : state.tensors) {
    if (name == key) return &tensor;
  }
  return nullptr;
}

at::ScalarType residual_type(at::ScalarType gradient) {
  return gradient == at::kHalf || gradient == at::kBFloat16 ? at::kFloat : gradient;
}

void carry_over(const std::vector<ParameterResidual>& from,
                const std::vector<ParameterResidual>& to,
                const std::vector<NamedParameter>& parameters, Communicator* share_holders) {
  const auto before = by_parameter(from, parameters);
  const auto after = by_parameter(to, parameters);
  for (size_t p = 0; p < parameters.size(); ++p) {
    const auto *old = before[p], *now = after[p];
    if (share_holders && parameters[p].reduction != Reduction::sharded) {
      const auto whole = zero_residual(parameters[p].tensor);
      if (old) copy_overlap(old->values, old->first, whole, 0);
      share_holders->allreduce(whole).wait();
      if (now) copy_overlap(whole, 0, now->values, now->first);
    } else if (old && now) {
      copy_overlap(old->values, old->first, now->values, now->first);
    }
  }
}

void save(const std::vector<ParameterResidual>& residuals, CompressorState& state) {
  for (const auto& residual : residuals) {
    state.counts[residual.name + ".first"] = residual.first;
    state.tensors.emplace_back(residual.name + ".residual", residual.values.clone());
  }
}

void check_fits(const std::vector<ParameterResidual>& residuals, const CompressorState& state) {
  for (const auto& residual : residuals) {
    const auto* saved = saved_tensor(state, residual.name + ".residual");
    if (!saved) continue;
    const int64_t first = count_of(state, residual.name + ".first");
    if (saved->sizes() == residual.values.sizes() && first == residual.first) continue;
    throw DataError(detail::join("compressor state '", residual.name, ".residual' holds ",
                                 saved->sizes(), " from value ", first, " on, this rank ",
                                 residual.values.sizes(), " from ", residual.first,
                                 "; load under the same bucket plan and on as many ranks a model"));
  }
}

void load_residuals(const std::vector<ParameterResidual>& residuals, const CompressorState& state) {
  for (const auto& residual : residuals) {
    if (const auto* saved = saved_tensor(state, residual.name + ".residual")) {
      residual.values.copy_(*saved);
    } else {
      residual.values.zero_();
    }
  }
}

int64_t count_of(const CompressorState& state, const std::string& key) {
  const auto found = state.counts.find(key);
  if (found == state.counts.end()) {
    throw DataError(detail::join("compressor state has no '", key, "'"));
  }
  return found->second;
}

}  // namespace isobar
