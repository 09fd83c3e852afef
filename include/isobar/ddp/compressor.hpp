// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/communicator.hpp>
#include <isobar/ddp/bucket_plan.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace isobar {

struct GradOwner;

/// A parameter's gradient, or a run of its elements, in a BucketPiece.
struct PieceSlot {
  int64_t parameter = 0;  ///< index into the parameter list
  int64_t offset = 0;     ///< in the piece
  int64_t first = 0;      ///< of the gradient's elements, in the order of memory
  int64_t elements = 0;
  /// Elements that make up one entry of the gradient's outermost dimension in memory: the
  /// gradient is a matrix of so many columns.
  int64_t columns = 1;
};

/// What this rank compresses of a bucket: all of it or, on a process grid, the share that it
/// reduces across nodes. Complex gradients count as pairs of real numbers.
struct BucketPiece {
  at::Tensor values;  ///< [elements], floating point; what is in no slot is zero
  std::vector<PieceSlot> slots;
  double divisor = 1;  ///< of the sum over the group, see Reduction

  /// For a compressor that sums the values themselves: what the allreduce divides by, and then,
  /// once that has ended, the division of what it does not.
  double divisor_inside() const;
  void divide_outside() const;
};

/// Every bucket of `plan` as one piece, in new zeroed memory laid out as a Reducer lays gradients
/// out, of which `.grad` of every parameter becomes an alias. For who runs a Compressor without a
/// Reducer.
std::vector<BucketPiece> make_pieces(const std::vector<NamedParameter>& parameters,
                                     const BucketPlan& plan, double divisor);

/// Bytes of gradients that a rank handed to collectives, and that left it.
struct Traffic {
  int64_t payload_bytes = 0;
  /// By the lower bounds that rings meet: of n ranks' allreduce 2 (n - 1) / n, of an
  /// all_to_all (n - 1) / n of the payload, of an all_gather n - 1 times the input.
  int64_t sent_bytes = 0;
};

/// The ranks over which one bucket is summed, for one stage of a Compressor. Refers to `group`
/// and `traffic`, and keeps the rest.
class BucketChannel {
 public:
  BucketChannel(Communicator& group, const BucketMark& mark, Traffic& traffic,
                std::vector<at::Tensor> sources)
      : group_(group), mark_(mark), traffic_(traffic), sources_(std::move(sources)) {}

  int rank() const noexcept { return group_.rank(); }
  int size() const noexcept { return group_.size(); }

  /// Where a slot's gradient is, for a compressor that reads gradients in place: [elements],
  /// in stage 0. Undefined where it is in the piece's values.
  at::Tensor source(size_t slot) const {
    return slot < sources_.size() ? sources_[slot] : at::Tensor();
  }

  /// As those of Communicator: they start and never block. `payload_bytes`, where it is
  /// given, is counted instead of the buffer's size; `divisor` is ReduceOptions'.
  [[nodiscard]] Work allreduce(at::Tensor buffer, int64_t payload_bytes = -1, double divisor = 1);
  /// The r-th of size() equal parts of `input` goes to rank r.
  [[nodiscard]] Work all_to_all(at::Tensor output, at::Tensor input);
  [[nodiscard]] Work all_gather(at::Tensor output, at::Tensor input);

 private:
  Communicator& group_;
  BucketMark mark_;
  Traffic& traffic_;
  std::vector<at::Tensor> sources_;
};

/// What a compressor has to remember: tensors by "<parameter>.<what>", in which a residual
/// is "<parameter>.residual", and counts.
struct CompressorState {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  std::map<std::string, int64_t> counts;
};

/// A way to sum gradients over ranks that sends less than the gradients.
///
/// A Reducer calls it: begin_step() once a step; for a compressed step then, for every
/// bucket, start() for stage 0 once the bucket is full, for each later stage once the one
/// before it has ended, and complete(). Each stage issues one collective, and has a
/// communicator in which buckets come in the order of the plan; between buckets and stages
/// the order may differ from rank to rank. All calls come within no_grad, from the thread that
/// runs the backward pass or finish(), and on a device they order streams only.
///
/// Where NCCL carries a bucket in several stages, they are all started while later buckets are
/// filled: start(), and in shares of buckets complete(), then come from the thread that issues to
/// the device, with another current stream, behind the caller's. No two calls overlap. What start()
/// reads of memory made elsewhere (gradients, what set_plan() allocated) has to stay alive until
/// complete().
///
/// One compressor serves one reducer at a time: a second one that is made while the first is
/// alive is refused. What it remembers of parameters goes over to a later reducer's of the same
/// names and shapes.
class Compressor {
 public:
  Compressor() = default;
  virtual ~Compressor() = default;
  /// A copy serves nobody yet.
  Compressor(const Compressor&) noexcept {}
  Compressor& operator=(const Compressor&) noexcept { return *this; }

  /// Method and options, such as "acp_sgd rank=4". Ranks must agree on it.
  virtual std::string description() const = 0;

  /// How many collectives a bucket takes, one after another.
  virtual int stages() const = 0;

  /// Whether stage 0 looks for gradients where BucketChannel::source() says. They need then
  /// not be copied into the piece's values, which are written in complete() only.
  virtual bool reads_in_place() const { return false; }

  /// Takes up new buckets and keeps what it remembers of each parameter. The pieces'
  /// values are borrowed until the next call. Where this is a rank's share of buckets,
  /// `share_holders` are the ranks that hold the other shares, each of which calls at the
  /// same time; else it is null. Blocks.
  virtual void set_plan(const std::vector<NamedParameter>& parameters,
                        const std::vector<BucketPiece>& pieces, Communicator* share_holders) = 0;

  /// Starts a step. False where its gradients are to be sent as they are.
  virtual bool begin_step() = 0;

  /// Starts a stage of a bucket, whose gradients of this rank are in the piece's values.
  /// Never blocks.
  [[nodiscard]] virtual Work start(int64_t bucket, int stage, BucketChannel& channel) = 0;

  /// Ends a bucket: puts the sum over the ranks, as far as it was sent, divided by the
  /// piece's divisor, into the piece's values.
  virtual void complete(int64_t bucket) = 0;

  /// Between steps. Tensors are copies.
  virtual CompressorState state() const = 0;

  /// Takes over a state, of which parameters that are not known are passed over; a
  /// parameter without one starts anew. Throws DataError, having changed nothing, where a
  /// tensor does not fit. Comes after the first set_plan().
  virtual void load(const CompressorState& state) = 0;

 private:
  friend struct CompressorAccess;
  std::weak_ptr<const GradOwner> user_;
};

/// Gives every rank of `group` the mean of the ranks' residuals. What the ranks still owe
/// together stays what it was, and for compressors that are linear in the gradients with it
/// the course of training in exact arithmetic. A state that was saved right after is the
/// same on all ranks, and fits a group of any size. Between steps; collective; blocks.
void average_residuals(Compressor& compressor, Communicator& group);

}  // namespace isobar
