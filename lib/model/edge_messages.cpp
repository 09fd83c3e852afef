// SPDX-License-Identifier: Apache-2.0
#include "model/edge_messages.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace isobar {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// What a pass takes beside tensors, and how its list of tensors is made up.
struct MessagePlan : torch::CustomClassHolder {
  std::shared_ptr<const EdgeIndex> index;
  std::shared_ptr<HaloExchange> exchange;
  MessageOptions options;
  size_t parts = 1;  ///< of the edges
  bool embedded = false;
};

void append(variable_list& all, const std::vector<at::Tensor>& part) {
  all.insert(all.end(), part.begin(), part.end());
}

variable_list flatten(const MessageInputs& in) {
  variable_list all{in.sources, in.destinations};
  append(all, in.edges);
  append(all, in.edge_mlp);
  append(all, in.embedding);
  return all;
}

MessageInputs unflatten(const variable_list& all, const MessagePlan& plan) {
  auto next = all.begin();
  const auto take = [&](int64_t count) {
    variable_list part(next, next + count);
    next += count;
    return part;
  };
  MessageInputs in;
  in.sources = take(1)[0].contiguous();
  in.destinations = take(1)[0].contiguous();
  in.edges = take(static_cast<int64_t>(plan.parts));
  for (at::Tensor& part : in.edges) part = part.contiguous();
  in.edge_mlp = take(MlpCore::kWithNorm);
  if (plan.embedded) in.embedding = take(MlpCore::kWithNorm);
  return in;
}

MessagePass make_pass(const variable_list& tensors, const MessagePlan& plan) {
  return {unflatten(tensors, plan), *plan.index, plan.exchange.get(), plan.options};
}

class EdgeMessages : public Function<EdgeMessages> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList tensors,
                               const c10::intrusive_ptr<MessagePlan>& plan) {
    variable_list saved = tensors.vec();
    MessagePass::Kept kept;
    const auto result = make_pass(saved, *plan).forward(kept);
    append(saved, {kept.tape.first, kept.tape.second, kept.tape.third, kept.halo});
    context->save_for_backward(std::move(saved));
    context->saved_data["plan"] = at::IValue::make_capsule(plan);
    context->set_materialize_grads(false);
    return plan->options.messages ? variable_list{result.sums, result.messages}
                                  : variable_list{result.sums};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto capsule = context->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const MessagePlan&>(*capsule);
    const variable_list saved = context->get_saved_variables();
    const auto kept = saved.end() - 4;
    const at::Tensor& destinations = saved[1];
    MessagePass::Given given;
    given.sums = gradients[0].defined()
                     ? gradients[0].contiguous()
                     : at::zeros({gradients[1].size(0), destinations.size(1), destinations.size(2)},
                                 destinations.options());
    if (gradients.size() > 1 && gradients[1].defined()) given.messages = gradients[1].contiguous();
    for (size_t i = 0; i < plan.parts; ++i) {
      given.wanted.push_back(context->needs_input_grad(2 + i));
    }
    variable_list result =
        flatten(make_pass(saved, plan).backward({{kept[0], kept[1], kept[2]}, kept[3]}, given));
    result.emplace_back();  // the plan's
    return result;
  }
};

}  // namespace

GraphConv::Result edge_messages(const MessageInputs& inputs,
                                const std::shared_ptr<const EdgeIndex>& index,
                                const std::shared_ptr<HaloExchange>& exchange,
                                const MessageOptions& options) {
  auto plan = c10::make_intrusive<MessagePlan>();
  plan->index = index;
  plan->exchange = exchange;
  plan->options = options;
  plan->parts = inputs.edges.size();
  plan->embedded = !inputs.embedding.empty();
  const variable_list result = EdgeMessages::apply(at::TensorList(flatten(inputs)), plan);
  return {options.messages ? result[1] : at::Tensor(), result[0]};
}

}  // namespace isobar
