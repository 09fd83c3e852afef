// SPDX-License-Identifier: Apache-2.0
// A GraphConv's passes over its edges, called by the function of autograd in edge_messages.cpp: one
// object a pass, on that pass's thread.
//
// Chunks come in the order of EdgeIndex, those that read other ranks' rows last, and backwards the
// other way round. So the exchange goes on beside the chunks that need nothing of it: forwards
// these come before wait(); backwards the halo's gradients are complete, and on their way, before
// they begin. From start() to wait() the halo's rows are the exchange's, and no such chunk touches
// them. Each pass makes exactly one exchange, whatever chunks a rank has: its peers wait for its
// part.
#include "model/message_pass.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "model/mlp_kernels.hpp"

namespace isobar {
namespace {

/// The sample's matrix of [B or 1, rows, columns].
at::Tensor sample_of(const at::Tensor& x, int64_t sample) {
  return x.select(0, x.size(0) == 1 ? 0 : sample);
}

}  // namespace

MessagePass::MessagePass(MessageInputs inputs, const EdgeIndex& index, HaloExchange* exchange,
                         const MessageOptions& options)
    : in_(std::move(inputs)),
      index_(index),
      exchange_(exchange),
      options_(options),
      like_(in_.destinations.options()),
      core_(in_.edge_mlp, in_.destinations),
      samples_(std::max({in_.sources.size(0), in_.destinations.size(0),
                         in_.embedding.empty() ? in_.edges[0].size(0) : 1})),
      edges_(index_.source().size(0)),
      chunk_edges_(index_.largest_chunk()) {
  if (!in_.embedding.empty()) embedding_.emplace(in_.embedding, in_.destinations);
  int64_t most = 0;
  for (const EdgeChunk& chunk : index_.chunks()) most = std::max(most, chunk.destinations);
  near_ = at::empty({most, channels()}, like_);
}

/// What the backward pass has come to.
struct MessagePass::Gradients {
  at::Tensor grad_messages, grad_sums;    ///< given; the first may be undefined
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
  const Matrix& weight = core_.first_forward(channels(), channels());
  for (int64_t sample = 0; sample < far.size(0); ++sample) {
    at::Tensor rows = far[sample].narrow(0, 0, own());
    linear({in_.sources[sample], weight}, {}, rows);
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

void MessagePass::recompute_embedding(const EdgeChunk& chunk) {
  if (!embedding_) return;
  RecomputedMlp recomputed = recomputed_embedding_.first_rows(chunk.edges);
  at::Tensor state = state_.narrow(0, 0, chunk.edges);
  embedding_->recompute_start(parts_of(chunk), recomputed);
  embedding_->recompute_finish(recomputed, state);
}

/// The first Linear of a chunk, from what was projected, into `rows`, and its GELU.
void MessagePass::start(const EdgeChunk& chunk, int64_t sample, const at::Tensor& far,
                        at::Tensor& rows, at::Tensor& activated, GeluLeaves leaves) {
  const int64_t c = channels();
  at::Tensor near = near_.narrow(0, 0, chunk.destinations);
  const at::Tensor destinations =
      sample_of(in_.destinations, sample).narrow(0, chunk.first_destination, chunk.destinations);
  linear({destinations, core_.first_forward(0, c)}, core_.first_bias(), near);
  linear_gather_gelu(
      {state_of(chunk, sample), core_.first_forward(2 * c, c)},
      {near, index_.destination().narrow(0, chunk.first_edge, chunk.edges), chunk.first_destination,
       sample_of(far, sample), index_.source().narrow(0, chunk.first_edge, chunk.edges)},
      rows, activated, leaves);
}

void MessagePass::make_scratch() {
  const auto rows = [&] { return at::empty({chunk_edges_, channels()}, like_); };
  if (!keeps()) tape_ = core_.make_tape(chunk_edges_, like_);
  if (embedding_) {
    embedding_tape_ = embedding_->make_tape(chunk_edges_, like_);
    state_ = rows();
  }
  activated_ = rows();
  if (!options_.messages) message_ = rows();
}

void MessagePass::make_backward_scratch() {
  const auto rows = [&] { return at::empty({chunk_edges_, channels()}, like_); };
  if (!keeps()) recomputed_ = core_.make_recomputed(chunk_edges_, like_);
  if (embedding_) {
    recomputed_embedding_ = embedding_->make_recomputed(chunk_edges_, like_);
    state_ = rows();
  }
  scratch_ = core_.make_scratch(chunk_edges_, like_, options_.activations);
  message_ = rows();
}

GraphConv::Result MessagePass::forward(Kept& kept) {
  make_scratch();
  if (keeps()) kept.tape = core_.make_tape(samples_ * edges_, like_);
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
      MlpTape tape = rows_of(kept.tape, tape_, chunk, sample);
      at::Tensor activated = activated_.narrow(0, 0, chunk.edges);
      at::Tensor message = options_.messages
                               ? result.messages[sample].narrow(0, chunk.first_edge, chunk.edges)
                               : message_.narrow(0, 0, chunk.edges);
      at::Tensor sums = result.sums[sample].narrow(0, chunk.first_destination, chunk.destinations);
      start(chunk, sample, far, tape.first, activated, GeluLeaves::rows);
      core_.finish(tape, activated, state_of(chunk, sample), message);
      sum_segments(message,
                   index_.offsets().narrow(0, chunk.first_destination, chunk.destinations + 1),
                   sums);
    }
  }
  pending.wait();
  if (exchange_ && !keeps()) kept.halo = far.narrow(1, own(), halo_rows()).clone();
  return result;
}

MessagePass::Gradients MessagePass::start_gradients(const Given& given) const {
  Gradients g{given.messages,
              given.sums,
              at::empty_like(in_.sources),
              at::zeros_like(in_.destinations),
              at::zeros({in_.sources.size(0), own() + halo_rows(), channels()},
                        like_.dtype(wide_type(like_.dtype().toScalarType()))),
              {},
              {}};
  for (size_t i = 0; i < in_.edges.size(); ++i) {
    g.parts.push_back(!given.wanted[i] ? at::Tensor()
                      : shares_state() ? at::zeros_like(in_.edges[i])
                                       : at::empty_like(in_.edges[i]));
  }
  g.state = embedding_ ? at::empty({chunk_edges_, channels()}, like_) : g.parts[0];
  return g;
}

// The adjoint of what GraphConv computes for an edge e from source j to destination i,
//     near_i = W1 x_i + b,  far_j = W2 x_j,  z_e = near_i + far_j + W3 s_e,
//     m_e = s_e + M(z_e),   a_i = the sum of m_e over the edges into i,
// where s is the edges' state and M the Mlp after its first Linear. With d for gradients,
//     dm_e = what is given at m_e, + da_i,     dz_e from MlpCore::backward(),
//     ds_e = dm_e + W3' dz_e,                  dW3 += dz_e s_e',
//     dnear_i = the sum of dz_e into i,        dx_i = W1' dnear_i,   dW1 += dnear_i x_i',
//     dfar_j = the sum of dz_e out of j,       dx_j = W2' dfar_j,    dW2 += dfar_j x_j'.
// Where the forward pass multiplies nodes and then gathers, this sums over edges and then
// multiplies: products are by node. Sources have edges in several chunks and other ranks' edges,
// so theirs wait for finish_sources().
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
  MlpScratch scratch = scratch_.first_rows(chunk.edges);
  at::Tensor grad_message = message_.narrow(0, 0, chunk.edges);
  add_gathered(
      g.grad_messages.defined() ? of_chunk(sample_of(g.grad_messages, sample)) : at::Tensor(),
      of_nodes(g.grad_sums[sample]), of_chunk(index_.destination()), chunk.first_destination,
      grad_message);
  const std::vector<MlpCore::FirstInput> of_state{{scratch.grad_first, state, 2 * c}};
  if (keeps()) {
    core_.backward(rows_of(kept, kept, chunk, sample), grad_message, scratch, of_state);
  } else {
    RecomputedMlp recomputed = recomputed_.first_rows(chunk.edges);
    at::Tensor unwanted;
    start(chunk, sample, far, recomputed.first_slope, recomputed.first, GeluLeaves::slope);
    core_.recompute_finish(recomputed, unwanted);
    core_.backward(recomputed, grad_message, scratch, of_state);
  }

  if (g.state.defined()) {
    at::Tensor to =
        embedding_ ? g.state.narrow(0, 0, chunk.edges) : of_chunk(sample_of(g.parts[0], sample));
    if (shares_state()) to.add_(grad_message);
    linear({scratch.grad_first, core_.first_backward(2 * c, c)}, shares_state() ? to : grad_message,
           to);
  }
  at::Tensor near = near_.narrow(0, 0, chunk.destinations);
  sum_segments(scratch.grad_first,
               index_.offsets().narrow(0, chunk.first_destination, chunk.destinations + 1), near);
  core_.add_first_gradient({near, of_nodes(sample_of(in_.destinations, sample)), 0});
  at::Tensor grad_destinations = of_nodes(sample_of(g.destinations, sample));
  linear({near, core_.first_backward(0, c)}, grad_destinations, grad_destinations);
  at::Tensor grad_far = sample_of(g.far, sample);
  add_segments(scratch.grad_first, of_chunk(index_.source_order()), chunk.first_edge,
               index_.chunk_source_offsets().narrow(0, chunk.first_source, chunk.sources + 1),
               index_.chunk_sources().narrow(0, chunk.first_source, chunk.sources), grad_far);
}

void MessagePass::embedding_backward(const EdgeChunk& chunk, Gradients& g) {
  MlpScratch scratch = scratch_.first_rows(chunk.edges);
  const auto parts = parts_of(chunk);
  embedding_->backward(recomputed_embedding_.first_rows(chunk.edges),
                       g.state.narrow(0, 0, chunk.edges), scratch,
                       MlpCore::first_inputs(scratch.grad_first, parts));
  int64_t column = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t width = parts[i].size(1);
    if (g.parts[i].defined()) {
      at::Tensor to = g.parts[i][0].narrow(0, chunk.first_edge, chunk.edges);
      linear({scratch.grad_first, embedding_->first_backward(column, width)}, {}, to);
    }
    column += width;
  }
}

void MessagePass::chunk_backward(const EdgeChunk& chunk, const MlpTape& kept, const at::Tensor& far,
                                 Gradients& g) {
  recompute_embedding(chunk);
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
    core_.add_first_gradient({own_rows, in_.sources[sample], c});
    at::Tensor to = g.sources[sample];
    linear({own_rows, core_.first_backward(c, c)}, {}, to);
  }
}

MessageInputs MessagePass::backward(const Kept& kept, const Given& given) {
  make_backward_scratch();
  core_.start_gradients();
  if (embedding_) embedding_->start_gradients();
  at::Tensor far;
  if (!keeps()) {
    far = project_sources();
    if (kept.halo.defined()) far.narrow(1, own(), halo_rows()).copy_(kept.halo);
  }
  Gradients g = start_gradients(given);
  // Chunks that read other ranks' rows are the last, and here the first: nothing is added to the
  // halo after them, so that it leaves while the others are computed. What peers send is added to
  // own rows in wait(), after this rank's own sums: in the same order, hence bits, in each run.
  PendingHalo pending;
  bool started = exchange_ == nullptr;
  const auto& chunks = index_.chunks();
  for (auto chunk = chunks.rbegin(); chunk != chunks.rend(); ++chunk) {
    if (!started && !chunk->halo) {
      pending = exchange_->start_adjoint(g.far);
      started = true;
    }
    chunk_backward(*chunk, kept.tape, far, g);
  }
  if (!started) pending = exchange_->start_adjoint(g.far);
  pending.wait();
  finish_sources(g);
  return {g.sources, g.destinations, g.parts, core_.gradients(in_.edge_mlp),
          embedding_ ? embedding_->gradients(in_.embedding) : std::vector<at::Tensor>()};
}

}  // namespace isobar
