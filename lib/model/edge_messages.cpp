// SPDX-License-Identifier: Apache-2.0
#include "model/edge_messages.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "model/mlp_core.hpp"
#include "model/mlp_kernels.hpp"

namespace isobar::detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

/// What a pass takes beside tensors, and how its list of tensors is made up.
struct Plan : torch::CustomClassHolder {
  std::shared_ptr<const EdgeIndex> index;
  std::shared_ptr<HaloExchange> exchange;
  MessageOptions options;
  size_t parts = 1;  ///< of the edges
  bool embedded = false;
};

variable_list flatten(const MessageInputs& in) {
  variable_list all{in.sources, in.destinations};
  all.insert(all.end(), in.edges.begin(), in.edges.end());
  all.insert(all.end(), in.edge_mlp.begin(), in.edge_mlp.end());
  all.insert(all.end(), in.embedding.begin(), in.embedding.end());
  return all;
}

MessageInputs unflatten(const variable_list& all, const Plan& plan) {
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

/// The sample's matrix of [B or 1, rows, columns].
at::Tensor sample_of(const at::Tensor& x, int64_t sample) {
  return x.select(0, x.size(0) == 1 ? 0 : sample);
}

/// Both passes over the edges, chunk by chunk. Names: `near` is a destination's projection, `far` a
/// source's, which other ranks may have made.
class MessagePass {
 public:
  MessagePass(MessageInputs inputs, const Plan& plan)
      : in_(std::move(inputs)),
        index_(*plan.index),
        exchange_(plan.exchange.get()),
        options_(plan.options),
        like_(in_.destinations.options()),
        core_(in_.edge_mlp, in_.destinations.scalar_type()),
        samples_(std::max({in_.sources.size(0), in_.destinations.size(0),
                           plan.embedded ? 1 : in_.edges[0].size(0)})),
        edges_(index_.source().size(0)),
        chunk_edges_(index_.largest_chunk()) {
    if (plan.embedded) embedding_.emplace(in_.embedding, in_.destinations.scalar_type());
    int64_t most = 0;
    for (const EdgeChunk& chunk : index_.chunks()) most = std::max(most, chunk.destinations);
    near_ = at::empty({most, channels()}, like_);
  }

  GraphConv::Result forward(MlpTape& kept, at::Tensor& halo);
  variable_list backward(const MlpTape& kept, const at::Tensor& halo, const at::Tensor& at_messages,
                         const at::Tensor& at_sums, AutogradContext* context);

 private:
  struct Gradients;

  int64_t channels() const { return core_.hidden(); }
  int64_t own() const { return in_.sources.size(1); }
  /// Several samples add to the gradient of one state.
  bool shares_state() const { return in_.edges[0].size(0) < samples_; }
  int64_t halo_rows() const { return exchange_ ? exchange_->plan().halo() : 0; }

  MlpTape rows_of(const MlpTape& kept, const MlpTape& scratch, const EdgeChunk& chunk,
                  int64_t sample) const;
  at::Tensor project_sources() const;
  std::vector<at::Tensor> parts_of(const EdgeChunk& chunk) const;
  at::Tensor state_of(const EdgeChunk& chunk, int64_t sample) const;
  void embed(const EdgeChunk& chunk);
  void start(const EdgeChunk& chunk, int64_t sample, const at::Tensor& state, const at::Tensor& far,
             MlpTape& tape, at::Tensor& activated);
  void make_scratch(bool backward);
  void chunk_backward(const EdgeChunk& chunk, const MlpTape& kept, const at::Tensor& far,
                      Gradients& gradients);
  void sample_backward(const EdgeChunk& chunk, int64_t sample, const MlpTape& kept,
                       const at::Tensor& far, Gradients& gradients);
  void embedding_backward(const EdgeChunk& chunk, Gradients& gradients);
  void finish_sources(Gradients& gradients);

  MessageInputs in_;
  const EdgeIndex& index_;
  HaloExchange* exchange_;
  MessageOptions options_;
  at::TensorOptions like_;
  MlpCore core_;
  std::optional<MlpCore> embedding_;
  int64_t samples_, edges_, chunk_edges_;

  // Rows of one chunk.
  at::Tensor near_, activated_, state_, message_;
  MlpTape tape_, embedding_tape_;
  MlpScratch scratch_;
};

/// What the backward pass has come to.
struct MessagePass::Gradients {
  at::Tensor at_messages, at_sums;        ///< given; the first may be undefined
  at::Tensor sources, destinations, far;  ///< far: of the wide type, halo included
  std::vector<at::Tensor> parts;          ///< of the edges, as far as wanted
  at::Tensor state;                       ///< of one chunk's embedded edges
};

MlpTape MessagePass::rows_of(const MlpTape& kept, const MlpTape& scratch, const EdgeChunk& chunk,
                             int64_t sample) const {
  return kept.first.defined() ? kept.rows(sample * edges_ + chunk.first_edge, chunk.edges)
                              : scratch.rows(0, chunk.edges);
}

/// [B, own + halo, C], the halo still empty.
at::Tensor MessagePass::project_sources() const {
  at::Tensor far = at::empty({in_.sources.size(0), own() + halo_rows(), channels()}, like_);
  const at::Tensor weight = core_.first_weight(channels(), channels()).t();
  for (int64_t sample = 0; sample < far.size(0); ++sample) {
    at::Tensor rows = far[sample].narrow(0, 0, own());
    at::mm_out(rows, in_.sources[sample], weight);
  }
  return far;
}

std::vector<at::Tensor> MessagePass::parts_of(const EdgeChunk& chunk) const {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& part : in_.edges) {
    parts.push_back(part[0].narrow(0, chunk.first_edge, chunk.edges));
  }
  return parts;
}

/// The edges' state, given or as embed() left it.
at::Tensor MessagePass::state_of(const EdgeChunk& chunk, int64_t sample) const {
  return embedding_ ? state_.narrow(0, 0, chunk.edges)
                    : sample_of(in_.edges[0], sample).narrow(0, chunk.first_edge, chunk.edges);
}

void MessagePass::embed(const EdgeChunk& chunk) {
  if (!embedding_) return;
  MlpTape tape = embedding_tape_.rows(0, chunk.edges);
  at::Tensor activated = activated_.narrow(0, 0, chunk.edges);
  at::Tensor state = state_.narrow(0, 0, chunk.edges);
  embedding_->start(parts_of(chunk), tape, activated);
  embedding_->finish(tape, activated, {}, state);
}

/// The first Linear of a chunk, from what was projected, and its GELU.
void MessagePass::start(const EdgeChunk& chunk, int64_t sample, const at::Tensor& state,
                        const at::Tensor& far, MlpTape& tape, at::Tensor& activated) {
  const int64_t c = channels();
  at::Tensor near = near_.narrow(0, 0, chunk.destinations);
  const at::Tensor destinations =
      sample_of(in_.destinations, sample).narrow(0, chunk.first_destination, chunk.destinations);
  at::addmm_out(near, core_.first_bias().to(like_), destinations, core_.first_weight(0, c).t());
  at::mm_out(tape.first, state, core_.first_weight(2 * c, c).t());
  gather_gelu(tape.first, near, index_.destination().narrow(0, chunk.first_edge, chunk.edges),
              chunk.first_destination, sample_of(far, sample),
              index_.source().narrow(0, chunk.first_edge, chunk.edges), activated);
}

void MessagePass::make_scratch(bool backward) {
  const auto rows = [&] { return at::empty({chunk_edges_, channels()}, like_); };
  const bool recompute = options_.activations == Activations::recompute;
  if (recompute) tape_ = core_.make_tape(chunk_edges_, like_);
  if (embedding_) {
    embedding_tape_ = embedding_->make_tape(chunk_edges_, like_);
    state_ = rows();
  }
  if (backward) scratch_ = core_.make_scratch(chunk_edges_, like_);
  activated_ = backward ? scratch_.activated : rows();
  if (backward || !options_.messages) message_ = rows();
}

GraphConv::Result MessagePass::forward(MlpTape& kept, at::Tensor& halo) {
  make_scratch(/*backward=*/false);
  if (options_.activations == Activations::keep) kept = core_.make_tape(samples_ * edges_, like_);
  const at::Tensor far = project_sources();
  PendingHalo pending;
  if (exchange_) pending = exchange_->start(far);
  GraphConv::Result result;
  if (options_.messages) result.messages = at::empty({samples_, edges_, channels()}, like_);
  result.sums = at::empty({samples_, in_.destinations.size(1), channels()}, like_);
  for (const EdgeChunk& chunk : index_.chunks()) {
    if (chunk.halo) pending.wait();
    embed(chunk);
    for (int64_t sample = 0; sample < samples_; ++sample) {
      const at::Tensor state = state_of(chunk, sample);
      MlpTape tape = rows_of(kept, tape_, chunk, sample);
      at::Tensor activated = activated_.narrow(0, 0, chunk.edges);
      at::Tensor message = options_.messages
                               ? result.messages[sample].narrow(0, chunk.first_edge, chunk.edges)
                               : message_.narrow(0, 0, chunk.edges);
      at::Tensor sums = result.sums[sample].narrow(0, chunk.first_destination, chunk.destinations);
      start(chunk, sample, state, far, tape, activated);
      core_.finish(tape, activated, state, message);
      sum_segments(message,
                   index_.offsets().narrow(0, chunk.first_destination, chunk.destinations + 1),
                   sums);
    }
  }
  pending.wait();
  if (exchange_ && options_.activations == Activations::recompute) {
    halo = far.narrow(1, own(), halo_rows()).clone();
  }
  return result;
}

void MessagePass::sample_backward(const EdgeChunk& chunk, int64_t sample, const MlpTape& kept,
                                  const at::Tensor& far, Gradients& g) {
  const int64_t c = channels();
  const auto of_chunk = [&](const at::Tensor& x) {
    return x.narrow(0, chunk.first_edge, chunk.edges);
  };
  const auto of_nodes = [&](const at::Tensor& x) {
    return x.narrow(0, chunk.first_destination, chunk.destinations);
  };
  const at::Tensor state = state_of(chunk, sample);
  MlpTape tape = rows_of(kept, tape_, chunk, sample);
  MlpScratch scratch = scratch_.first_rows(chunk.edges);
  if (tape_.first.defined()) {
    at::Tensor unwanted;
    start(chunk, sample, state, far, tape, scratch.activated);
    core_.finish(tape, scratch.activated, {}, unwanted);
  }
  at::Tensor at_message = message_.narrow(0, 0, chunk.edges);
  if (g.at_messages.defined()) {
    at_message.copy_(of_chunk(sample_of(g.at_messages, sample)));
  } else {
    at_message.zero_();
  }
  add_gathered(at_message, of_nodes(g.at_sums[sample]), of_chunk(index_.destination()),
               chunk.first_destination);
  core_.backward(tape, at_message, scratch);

  core_.add_first_gradient(scratch.at_first, state, 2 * c);
  if (g.state.defined()) {
    at::Tensor to =
        embedding_ ? g.state.narrow(0, 0, chunk.edges) : of_chunk(sample_of(g.parts[0], sample));
    if (shares_state()) {
      to.add_(at_message).addmm_(scratch.at_first, core_.first_weight(2 * c, c));
    } else {
      at::addmm_out(to, at_message, scratch.at_first, core_.first_weight(2 * c, c));
    }
  }
  at::Tensor near = near_.narrow(0, 0, chunk.destinations);
  sum_segments(scratch.at_first,
               index_.offsets().narrow(0, chunk.first_destination, chunk.destinations + 1), near);
  core_.add_first_gradient(near, of_nodes(sample_of(in_.destinations, sample)), 0);
  at::Tensor at_destinations = of_nodes(sample_of(g.destinations, sample));
  at_destinations.addmm_(near, core_.first_weight(0, c));
  at::Tensor at_far = sample_of(g.far, sample);
  add_segments(scratch.at_first, of_chunk(index_.source_order()), chunk.first_edge,
               index_.chunk_source_offsets().narrow(0, chunk.first_source, chunk.sources + 1),
               index_.chunk_sources().narrow(0, chunk.first_source, chunk.sources), at_far);
}

void MessagePass::embedding_backward(const EdgeChunk& chunk, Gradients& g) {
  MlpScratch scratch = scratch_.first_rows(chunk.edges);
  const auto parts = parts_of(chunk);
  embedding_->backward(embedding_tape_.rows(0, chunk.edges), g.state.narrow(0, 0, chunk.edges),
                       scratch);
  embedding_->add_first_gradients(scratch.at_first, parts);
  int64_t column = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t width = parts[i].size(1);
    if (g.parts[i].defined()) {
      at::Tensor to = g.parts[i][0].narrow(0, chunk.first_edge, chunk.edges);
      at::mm_out(to, scratch.at_first, embedding_->first_weight(column, width));
    }
    column += width;
  }
}

void MessagePass::chunk_backward(const EdgeChunk& chunk, const MlpTape& kept, const at::Tensor& far,
                                 Gradients& g) {
  embed(chunk);
  if (embedding_ && shares_state()) g.state.zero_();
  for (int64_t sample = 0; sample < samples_; ++sample) {
    sample_backward(chunk, sample, kept, far, g);
  }
  if (embedding_) embedding_backward(chunk, g);
}

/// The sources' gradients, from those of what was projected of them.
void MessagePass::finish_sources(Gradients& g) {
  const int64_t c = channels();
  for (int64_t sample = 0; sample < g.far.size(0); ++sample) {
    const at::Tensor own_rows = g.far[sample].narrow(0, 0, own()).to(like_.dtype());
    core_.add_first_gradient(own_rows, in_.sources[sample], c);
    at::Tensor to = g.sources[sample];
    at::mm_out(to, own_rows, core_.first_weight(c, c));
  }
}

variable_list MessagePass::backward(const MlpTape& kept, const at::Tensor& halo,
                                    const at::Tensor& at_messages, const at::Tensor& at_sums,
                                    AutogradContext* context) {
  make_scratch(/*backward=*/true);
  core_.start_gradients();
  if (embedding_) embedding_->start_gradients();
  at::Tensor far;
  if (tape_.first.defined()) {
    far = project_sources();
    if (halo.defined()) far.narrow(1, own(), halo_rows()).copy_(halo);
  }
  Gradients g{at_messages,
              at_sums,
              at::empty_like(in_.sources),
              at::zeros_like(in_.destinations),
              at::zeros({in_.sources.size(0), own() + halo_rows(), channels()},
                        like_.dtype(wide_type(like_.dtype().toScalarType()))),
              {},
              {}};
  for (size_t i = 0; i < in_.edges.size(); ++i) {
    const bool wanted = context->needs_input_grad(2 + i);
    g.parts.push_back(!wanted          ? at::Tensor()
                      : shares_state() ? at::zeros_like(in_.edges[i])
                                       : at::empty_like(in_.edges[i]));
  }
  g.state = embedding_ ? at::empty({chunk_edges_, channels()}, like_) : g.parts[0];
  // Chunks that read other ranks' rows come last: their gradients leave while the others are
  // computed.
  PendingHalo pending;
  bool started = exchange_ == nullptr;
  const auto& chunks = index_.chunks();
  for (auto chunk = chunks.rbegin(); chunk != chunks.rend(); ++chunk) {
    if (!started && !chunk->halo) {
      pending = exchange_->start_adjoint(g.far);
      started = true;
    }
    chunk_backward(*chunk, kept, far, g);
  }
  if (!started) pending = exchange_->start_adjoint(g.far);
  pending.wait();
  finish_sources(g);
  variable_list result{g.sources, g.destinations};
  result.insert(result.end(), g.parts.begin(), g.parts.end());
  for (const at::Tensor& gradient : core_.gradients(in_.edge_mlp)) result.push_back(gradient);
  if (embedding_) {
    for (const auto& gradient : embedding_->gradients(in_.embedding)) result.push_back(gradient);
  }
  return result;
}

class EdgeMessages : public Function<EdgeMessages> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList tensors,
                               const c10::intrusive_ptr<Plan>& plan) {
    MlpTape kept;
    at::Tensor halo;
    const auto result = MessagePass(unflatten(tensors.vec(), *plan), *plan).forward(kept, halo);
    variable_list saved = tensors.vec();
    saved.insert(saved.end(), {kept.first, kept.second, kept.third, halo});
    context->save_for_backward(std::move(saved));
    context->saved_data["plan"] = at::IValue::make_capsule(plan);
    context->set_materialize_grads(false);
    return plan->options.messages ? variable_list{result.sums, result.messages}
                                  : variable_list{result.sums};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto capsule = context->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const Plan&>(*capsule);
    const variable_list saved = context->get_saved_variables();
    const auto kept = saved.end() - 4;
    MessagePass pass(unflatten(saved, plan), plan);
    const at::Tensor& destinations = saved[1];
    const at::Tensor at_sums =
        gradients[0].defined()
            ? gradients[0].contiguous()
            : at::zeros({gradients[1].size(0), destinations.size(1), destinations.size(2)},
                        destinations.options());
    const at::Tensor at_messages =
        gradients.size() > 1 && gradients[1].defined() ? gradients[1].contiguous() : at::Tensor();
    variable_list result =
        pass.backward({kept[0], kept[1], kept[2]}, kept[3], at_messages, at_sums, context);
    result.emplace_back();  // the plan's
    return result;
  }
};

}  // namespace

GraphConv::Result edge_messages(const MessageInputs& inputs,
                                const std::shared_ptr<const EdgeIndex>& index,
                                const std::shared_ptr<HaloExchange>& exchange,
                                const MessageOptions& options) {
  auto plan = c10::make_intrusive<Plan>();
  plan->index = index;
  plan->exchange = exchange;
  plan->options = options;
  plan->parts = inputs.edges.size();
  plan->embedded = !inputs.embedding.empty();
  const variable_list result = EdgeMessages::apply(at::TensorList(flatten(inputs)), plan);
  return {options.messages ? result[1] : at::Tensor(), result[0]};
}

}  // namespace isobar::detail
