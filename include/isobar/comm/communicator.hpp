// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/comm/operation.hpp>
#include <isobar/comm/work.hpp>
#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace isobar {

/// Why a world failed; shared by its communicators, private to the backends.
class FirstCause;

/// Where a communicator reports what it issues; private to the backends.
class Watch;

class CollectiveCensus;
class DeviceOrder;

/// What an allreduce or a reduce_scatter does, and what it carries.
struct ReduceOptions {
  ReduceOp op = ReduceOp::sum;
  BucketMark mark{};
  /// A sum of 16-bit floats is divided by it before it is rounded: so a mean fits where the sum
  /// would be infinite, and keeps what small values have. Positive; 1 for whatever is no such sum.
  double divisor = 1;
};

/// Whether sums of that type are made in a wider one and rounded at their end, so that
/// ReduceOptions::divisor may divide them: the 16-bit floats.
bool has_rounded_sums(at::ScalarType type) noexcept;

/// A fixed, ordered set of ranks that exchange tensors.
///
/// All ranks issue the same collectives in the same order, each rank from one
/// thread at a time. Every operation is asynchronous: it starts at once, never
/// blocks, and its tensors belong to it until its Work has been waited for.
/// Operations of one communicator start in the order of the calls. Results of
/// an allreduce are the same bits on every rank.
///
/// Arguments are checked before anything is sent: a mistake made on every rank
/// throws UsageError on every rank; one made on a single rank reaches the
/// others as CommError once their time limit has passed. After a CommError the
/// communicator is unusable, and with it all that were split from the same
/// world: every later call throws CommError with the first cause.
///
/// A communicator of size one works everywhere and sends nothing.
class Communicator {
 public:
  virtual ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const noexcept { return rank_; }
  int size() const noexcept { return size_; }

  /// The transport's name: "self", "threads", "mpi".
  std::string_view backend() const noexcept { return do_backend(); }

  /// The longest an operation may take before wait() throws CommError.
  std::chrono::milliseconds timeout() const noexcept { return timeout_; }

  /// Applies to operations issued afterwards. Positive.
  void set_timeout(std::chrono::milliseconds timeout);

  /// Combines `buffer` over the ranks, in place. Dense and contiguous. 16-bit
  /// floats are combined in float32 and rounded once.
  [[nodiscard]] Work allreduce(at::Tensor buffer, ReduceOp op = ReduceOp::sum);
  [[nodiscard]] Work allreduce(at::Tensor buffer, const ReduceOptions& options);

  /// Combines `input` (size() · n elements) over the ranks; rank r keeps the
  /// r-th n elements in `output` (n elements). The two share no memory, here and
  /// in the next two.
  [[nodiscard]] Work reduce_scatter(at::Tensor output, at::Tensor input,
                                    ReduceOp op = ReduceOp::sum);
  [[nodiscard]] Work reduce_scatter(at::Tensor output, at::Tensor input,
                                    const ReduceOptions& options);

  /// Puts every rank's `input` (n elements) into `output` (size() · n elements),
  /// in the order of ranks.
  [[nodiscard]] Work all_gather(at::Tensor output, at::Tensor input, const BucketMark& mark = {});

  /// Sends the first input_rows[0] rows of `input` to rank 0, the next
  /// input_rows[1] to rank 1, and so on; `output` receives output_rows[r] rows
  /// from rank r, in the order of ranks. A row is an entry of dimension 0.
  /// Zero rows are allowed.
  [[nodiscard]] Work all_to_all(at::Tensor output, at::Tensor input,
                                std::vector<int64_t> output_rows, std::vector<int64_t> input_rows,
                                const BucketMark& mark = {});

  /// Copies the root's `buffer` into everyone's.
  [[nodiscard]] Work broadcast(at::Tensor buffer, int root, const BucketMark& mark = {});

  /// Sends to, and receives from, one other rank; matched by (peer, tag) in the
  /// order of the calls. Not part of the order of collectives. CPU tensors, and a GPU's over
  /// host memory: NCCL carries none, and UsageError says so.
  [[nodiscard]] Work send(at::Tensor buffer, int peer, int tag = 0);
  [[nodiscard]] Work receive(at::Tensor buffer, int peer, int tag = 0);

  /// Completes once every rank has called it.
  [[nodiscard]] Work barrier();

  /// Makes one communicator of all ranks that pass the same `color`, ordered by
  /// (key, rank). Collective over this communicator; blocks. A negative color
  /// takes part and returns null.
  std::unique_ptr<Communicator> split(int color, int key);

  /// Counts, once it is started, what this communicator issues on this rank, and with it the one
  /// that it was split from and all that are split from it.
  CollectiveCensus& census() noexcept { return *census_; }

  /// Fails the world for `reason`, unless it has failed already: every rank's waits
  /// end with CommError "rank 2 of 8: <reason>". For a rank that cannot go on; it
  /// does not throw. The others learn it at once or, on transports without a control
  /// connection, when their time limit has passed.
  void abort(const std::string& reason);

 protected:
  /// `cause` comes from the communicator this one is split from; a world of its
  /// own has none.
  Communicator(int rank, int size, std::chrono::milliseconds timeout,
               std::shared_ptr<FirstCause> cause = nullptr);

  const std::shared_ptr<FirstCause>& first_cause() const noexcept { return cause_; }

  /// Reports this communicator's collectives there from now on.
  void set_watch(std::unique_ptr<Watch> watch);

 private:
  friend struct BackendAccess;
  friend class DeviceOrder;

  /// Starts `operation` and returns its handle; must not block.
  virtual Work do_start(Operation operation) = 0;
  virtual std::unique_ptr<Communicator> do_split(int color, int key) = 0;
  virtual std::string_view do_backend() const noexcept = 0;
  virtual void do_abort(const std::string& reason);
  /// See DeviceOrder::of().
  virtual std::unique_ptr<DeviceOrder> do_device_order(const c10::Device& device);

  Work start(Operation operation);
  void check_tensor(OperationKind kind, const at::Tensor& tensor, std::string_view role) const;
  void check_divisor(OperationKind kind, const at::Tensor& tensor,
                     const ReduceOptions& options) const;
  void check_pair(OperationKind kind, const at::Tensor& output, const at::Tensor& input) const;
  void check_peer(OperationKind kind, int peer) const;
  void check_tag(OperationKind kind, int tag) const;

  int rank_;
  int size_;
  std::chrono::milliseconds timeout_;
  std::shared_ptr<FirstCause> cause_;
  std::unique_ptr<Watch> watch_;
  std::shared_ptr<CollectiveCensus> census_;
  int64_t collectives_ = 0;
  int64_t messages_ = 0;
  int64_t splits_ = 0;
};

/// The time limit of operations unless one is set: half an hour is PyTorch's
/// and wastes an allocation, so five minutes.
inline constexpr std::chrono::milliseconds kDefaultTimeout{300'000};

/// A world of one rank: every operation completes at once.
std::unique_ptr<Communicator> make_self_communicator();

}  // namespace isobar
