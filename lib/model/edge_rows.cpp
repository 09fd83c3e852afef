// SPDX-License-Identifier: Apache-2.0
#include "model/edge_rows.hpp"

#include <torch/csrc/autograd/custom_function.h>

#include "model/row_kernels.hpp"

// The two operations are each other's adjoint: the gradient of a gather is a sum at the rows it
// read, the gradient of a sum is a gather. Written out, backward needs neither index_add, which is
// serial on the CPU and not deterministic on GPUs, nor an activation.

namespace isobar::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

class GatherAndAdd : public Function<GatherAndAdd> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& edges,
                            const at::Tensor& destinations, const at::Tensor& sources,
                            const EdgeIndex* index) {
    context->save_for_backward({index->source().order, index->source().offsets,
                                index->destination().order, index->destination().offsets});
    return gather_add_rows(edges, destinations, index->destination().row, sources,
                           index->source().row);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor& gradient = gradients[0];
    const variable_list saved = context->get_saved_variables();
    const EdgeIndex::End source{{}, saved[0], saved[1]}, destination{{}, saved[2], saved[3]};
    return {gradient, sum_rows(gradient, destination), sum_rows(gradient, source), {}};
  }
};

class SumAtDestinations : public Function<SumAtDestinations> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& edges,
                            const EdgeIndex* index) {
    context->save_for_backward({index->destination().row});
    return sum_rows(edges, index->destination());
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {gather_rows(gradients[0], context->get_saved_variables()[0]), {}};
  }
};

}  // namespace

at::Tensor gather_and_add(const at::Tensor& edges, const at::Tensor& destinations,
                          const at::Tensor& sources, const EdgeIndex& index) {
  return GatherAndAdd::apply(edges, destinations, sources, &index);
}

at::Tensor sum_at_destinations(const at::Tensor& edges, const EdgeIndex& index) {
  return SumAtDestinations::apply(edges, &index);
}

}  // namespace isobar::detail
