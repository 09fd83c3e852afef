// SPDX-License-Identifier: Apache-2.0
// Mlp::forward() as a function of autograd: forward() runs on the caller's thread, backward() on
// autograd's, which on the CPU is that of the caller of backward().
//
// Both go through the rows a chunk at a time, each of one sample, in the same order. So with
// Activations::recompute what is temporary has a chunk's rows, and sums over rows have the same
// terms in the same order in each run. Autograd saves inputs and parameters as they were given and
// the tape, if one is kept: casts and packed matrices are made again, for a backward pass may come
// much later.
#include "model/mlp_rows.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "model/mlp_core.hpp"

namespace isobar {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// A range of the rows of one sample.
struct Chunk {
  int64_t sample, begin, count;
};

/// The inputs of a pass: parts and what follows from them.
struct Rows {
  explicit Rows(std::vector<at::Tensor> given) : parts(std::move(given)) {
    for (at::Tensor& part : parts) part = part.contiguous();
    count = parts.front().size(1);
    for (const at::Tensor& part : parts) samples = std::max(samples, part.size(0));
  }

  std::vector<at::Tensor> rows(const Chunk& chunk) const {
    std::vector<at::Tensor> result;
    for (const at::Tensor& part : parts) result.push_back(of(part, chunk));
    return result;
  }

  /// The chunk's rows of a [B or 1, N, k].
  static at::Tensor of(const at::Tensor& x, const Chunk& chunk) {
    return x.select(0, x.size(0) == 1 ? 0 : chunk.sample).narrow(0, chunk.begin, chunk.count);
  }

  template <typename Body>
  void for_chunks(int64_t rows, const Body& body) const {
    for (int64_t sample = 0; sample < samples; ++sample) {
      for (int64_t begin = 0; begin < count; begin += rows) {
        body(Chunk{sample, begin, std::min(rows, count - begin)});
      }
    }
  }

  std::vector<at::Tensor> parts;
  int64_t count = 0;
  int64_t samples = 1;
};

/// The tape of all rows, [samples * N, width], as far as it is kept.
MlpTape tape_of(const MlpTape& kept, const Rows& rows, const Chunk& chunk, const MlpTape& scratch) {
  return kept.first.defined() ? kept.rows(chunk.sample * rows.count + chunk.begin, chunk.count)
                              : scratch.rows(0, chunk.count);
}

int64_t chunk_rows(const RowOptions& options, const MlpCore& core, const Rows& rows) {
  const int64_t wanted = options.chunk_rows > 0 ? options.chunk_rows
                                                : automatic_rows(core.hidden(), rows.parts.front());
  return std::min(wanted, std::max<int64_t>(1, rows.count));
}

/// What the backward pass takes from the forward one beside tensors.
struct RowPlan : torch::CustomClassHolder {
  RowPlan(RowOptions given, size_t number) : options(given), parts(number) {}
  RowOptions options;
  size_t parts;
};

/// The gradients at the parts, as far as they are wanted.
class PartGradients {
 public:
  PartGradients(AutogradContext* context, const Rows& rows) {
    for (size_t i = 0; i < rows.parts.size(); ++i) {
      const at::Tensor& part = rows.parts[i];
      wanted_.push_back(!context->needs_input_grad(i) ? at::Tensor()
                        : part.size(0) < rows.samples ? at::zeros_like(part)
                                                      : at::empty_like(part));
    }
  }

  /// Of part i: grad_first times its columns of W1; of the first part with a residual, which is
  /// added to the result as it is, the gradient at the result too. A part that samples share was
  /// repeated for each, so its gradient is their sum, sample after sample.
  void take(const Rows& rows, const Chunk& chunk, const MlpCore& core, const at::Tensor& grad_first,
            const at::Tensor& residual) {
    int64_t column = 0;
    for (size_t i = 0; i < wanted_.size(); ++i) {
      const int64_t width = rows.parts[i].size(2);
      if (wanted_[i].defined()) {
        at::Tensor to = Rows::of(wanted_[i], chunk);
        const bool shared = rows.parts[i].size(0) < rows.samples;
        const bool add = i == 0 && residual.defined();
        if (add && shared) to.add_(residual);
        linear({grad_first, core.first_backward(column, width)},
               shared ? to
               : add  ? residual
                      : at::Tensor(),
               to);
      }
      column += width;
    }
  }

  variable_list& tensors() { return wanted_; }

 private:
  variable_list wanted_;
};

class MlpRows : public Function<MlpRows> {
 public:
  static at::Tensor forward(AutogradContext* context, at::TensorList tensors,
                            const c10::intrusive_ptr<RowPlan>& plan) {
    const auto middle = tensors.begin() + static_cast<std::ptrdiff_t>(plan->parts);
    const Rows rows(variable_list(tensors.begin(), middle));
    const at::TensorOptions options = rows.parts.front().options();
    const MlpCore core(variable_list(middle, tensors.end()), rows.parts.front());
    const int64_t chunk = chunk_rows(plan->options, core, rows);
    const bool keep = plan->options.activations == Activations::keep;
    const MlpTape kept = keep ? core.make_tape(rows.samples * rows.count, options) : MlpTape{};
    const MlpTape scratch = keep ? MlpTape{} : core.make_tape(chunk, options);
    const at::Tensor activated = at::empty({chunk, core.hidden()}, options);
    at::Tensor result = at::empty({rows.samples, rows.count, core.out()}, options);
    rows.for_chunks(chunk, [&](const Chunk& range) {
      MlpTape tape = tape_of(kept, rows, range, scratch);
      at::Tensor gelu = activated.narrow(0, 0, range.count), out = Rows::of(result, range);
      const auto parts = rows.rows(range);
      core.start(parts, tape, gelu);
      core.finish(tape, gelu, plan->options.residual ? parts[0] : at::Tensor(), out);
    });
    save(context, tensors.vec(), kept, plan);
    return result;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto plan = context->saved_data["plan"].toCapsule();
    const auto& options = static_cast<RowPlan&>(*plan).options;
    const auto parts = static_cast<std::ptrdiff_t>(static_cast<RowPlan&>(*plan).parts);
    const variable_list saved = context->get_saved_variables();
    const auto parameters_end = saved.end() - 3;
    const Rows rows({saved.begin(), saved.begin() + parts});
    const variable_list parameters(saved.begin() + parts, parameters_end);
    const MlpTape kept{*parameters_end, *(parameters_end + 1), *(parameters_end + 2)};
    const at::TensorOptions like = rows.parts.front().options();
    MlpCore core(parameters, rows.parts.front());
    core.start_gradients();
    const int64_t chunk = chunk_rows(options, core, rows);
    const bool recompute = options.activations == Activations::recompute;
    const RecomputedMlp recomputed_rows =
        recompute ? core.make_recomputed(chunk, like) : RecomputedMlp{};
    const MlpScratch scratch = core.make_scratch(chunk, like, options.activations);
    const at::Tensor grad_out = gradients[0].contiguous();
    PartGradients grad_parts(context, rows);
    rows.for_chunks(chunk, [&](const Chunk& range) {
      MlpScratch part = scratch.first_rows(range.count);
      const auto inputs = rows.rows(range);
      const at::Tensor gradient = Rows::of(grad_out, range);
      if (recompute) {
        RecomputedMlp recomputed = recomputed_rows.first_rows(range.count);
        at::Tensor unwanted;
        core.recompute_start(inputs, recomputed);
        core.recompute_finish(recomputed, unwanted);
        core.backward(recomputed, gradient, part, MlpCore::first_inputs(part.grad_first, inputs));
      } else {
        core.backward(tape_of(kept, rows, range, kept), gradient, part,
                      MlpCore::first_inputs(part.grad_first, inputs));
      }
      grad_parts.take(rows, range, core, part.grad_first,
                      options.residual ? gradient : at::Tensor());
    });
    variable_list result = grad_parts.tensors();
    for (const at::Tensor& gradient : core.gradients(parameters)) result.push_back(gradient);
    result.emplace_back();  // the plan's
    return result;
  }

 private:
  static void save(AutogradContext* context, variable_list tensors, const MlpTape& kept,
                   const c10::intrusive_ptr<RowPlan>& plan) {
    tensors.insert(tensors.end(), {kept.first, kept.second, kept.third});
    context->save_for_backward(std::move(tensors));
    context->saved_data["plan"] = at::IValue::make_capsule(plan);
  }
};

void check_parts(const std::vector<at::Tensor>& parts, const std::vector<at::Tensor>& parameters) {
  int64_t columns = 0;
  for (const at::Tensor& part : parts) {
    ISOBAR_CHECK(part.dim() == 3 && part.size(1) == parts.front().size(1),
                 "Mlp: parts must be [batch, ", parts.front().size(1), ", columns], got ",
                 part.sizes());
    columns += part.size(2);
  }
  ISOBAR_CHECK(columns == parameters[0].size(1), "Mlp: the parts have ", columns,
               " columns together, wanted ", parameters[0].size(1));
}

}  // namespace

at::Tensor mlp_rows(const std::vector<at::Tensor>& parts, const std::vector<at::Tensor>& parameters,
                    const RowOptions& options) {
  check_parts(parts, parameters);
  variable_list tensors = parts;
  tensors.insert(tensors.end(), parameters.begin(), parameters.end());
  return MlpRows::apply(at::TensorList(tensors),
                        c10::make_intrusive<RowPlan>(options, parts.size()));
}

}  // namespace isobar
