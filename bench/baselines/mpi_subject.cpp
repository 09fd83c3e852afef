// SPDX-License-Identifier: Apache-2.0
#include "bench/baselines/mpi_subject.hpp"

#include <isobar/core/error.hpp>
#include <mpi.h>

#include <chrono>
#include <limits>
#include <numeric>
#include <thread>

namespace isobar::bench {
namespace {

constexpr auto kNap = std::chrono::microseconds(200);
constexpr auto kGatherLimit = std::chrono::minutes(5);

MPI_Datatype mpi_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return MPI_FLOAT;
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kInt:
      return MPI_INT32_T;
    case at::kLong:
      return MPI_INT64_T;
    default:
      throw UsageError(detail::join("MPI has no type for ", c10::toString(type)));
  }
}

std::string call_name(Collective op) {
  switch (op) {
    case Collective::reduce_scatter:
      return "reduce_scatter_block";
    case Collective::all_gather:
      return "allgather";
    case Collective::all_to_all:
      return "alltoall";
    case Collective::broadcast:
      return "bcast";
    case Collective::send_receive:
      return "sendrecv";
    default:
      return std::string(to_string(op));
  }
}

int count(const at::Tensor& tensor) {
  if (!tensor.defined()) return 0;
  ISOBAR_CHECK(tensor.numel() <= std::numeric_limits<int>::max(), "MPI counts to ",
               std::numeric_limits<int>::max(), " elements, got ", tensor.numel());
  return static_cast<int>(tensor.numel());
}

/// The arguments that every call takes some of.
struct Call {
  const void* input;
  void* output;
  int input_count;
  int output_count;
  MPI_Datatype type;
  int rank;
  int size;

  int before() const { return (rank + size - 1) % size; }
  int after() const { return (rank + 1) % size; }
};

void run_blocking(Collective op, const Call& c) {
  const auto world = MPI_COMM_WORLD;
  switch (op) {
    case Collective::allreduce:
      MPI_Allreduce(MPI_IN_PLACE, c.output, c.output_count, c.type, MPI_SUM, world);
      break;
    case Collective::reduce_scatter:
      MPI_Reduce_scatter_block(c.input, c.output, c.output_count, c.type, MPI_SUM, world);
      break;
    case Collective::all_gather:
      MPI_Allgather(c.input, c.input_count, c.type, c.output, c.input_count, c.type, world);
      break;
    case Collective::all_to_all:
      MPI_Alltoall(c.input, c.input_count / c.size, c.type, c.output, c.input_count / c.size,
                   c.type, world);
      break;
    case Collective::broadcast:
      MPI_Bcast(c.output, c.output_count, c.type, 0, world);
      break;
    case Collective::barrier:
      MPI_Barrier(world);
      break;
    case Collective::send_receive:
      MPI_Sendrecv(c.input, c.input_count, c.type, c.after(), 0, c.output, c.output_count, c.type,
                   c.before(), 0, world, MPI_STATUS_IGNORE);
      break;
  }
}

void start_nonblocking(Collective op, const Call& c, std::vector<MPI_Request>& requests) {
  const auto world = MPI_COMM_WORLD;
  auto* request = &requests.emplace_back();
  switch (op) {
    case Collective::allreduce:
      MPI_Iallreduce(MPI_IN_PLACE, c.output, c.output_count, c.type, MPI_SUM, world, request);
      break;
    case Collective::reduce_scatter:
      MPI_Ireduce_scatter_block(c.input, c.output, c.output_count, c.type, MPI_SUM, world, request);
      break;
    case Collective::all_gather:
      MPI_Iallgather(c.input, c.input_count, c.type, c.output, c.input_count, c.type, world,
                     request);
      break;
    case Collective::all_to_all:
      MPI_Ialltoall(c.input, c.input_count / c.size, c.type, c.output, c.input_count / c.size,
                    c.type, world, request);
      break;
    case Collective::broadcast:
      MPI_Ibcast(c.output, c.output_count, c.type, 0, world, request);
      break;
    case Collective::barrier:
      MPI_Ibarrier(world, request);
      break;
    case Collective::send_receive:
      MPI_Irecv(c.output, c.output_count, c.type, c.before(), 0, world, request);
      MPI_Isend(c.input, c.input_count, c.type, c.after(), 0, world, &requests.emplace_back());
      break;
  }
}

class MpiSubject final : public Subject {
 public:
  explicit MpiSubject(const MpiSubjectOptions& options)
      : options_(options), type_(mpi_type(options.type)) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }

  std::string backend() const override {
    return (options_.nonblocking ? "mpi_i" : "mpi_") + call_name(options_.op);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::vector<std::string> gather(const std::string& text) override {
    const int length = static_cast<int>(text.size());
    std::vector<int> lengths(size_), offsets(size_, 0);
    MPI_Request request;
    MPI_Iallgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, MPI_COMM_WORLD, &request);
    wait_asleep(request);
    std::partial_sum(lengths.begin(), lengths.end() - 1, offsets.begin() + 1);
    std::string all(static_cast<std::size_t>(offsets.back() + lengths.back()), '\0');
    MPI_Iallgatherv(text.data(), length, MPI_CHAR, all.data(), lengths.data(), offsets.data(),
                    MPI_CHAR, MPI_COMM_WORLD, &request);
    wait_asleep(request);
    std::vector<std::string> texts;
    for (int i = 0; i < size_; ++i) texts.push_back(all.substr(offsets[i], lengths[i]));
    return texts;
  }

  void barrier() override { MPI_Barrier(MPI_COMM_WORLD); }

  void start(const std::vector<Buffers>& flight) override {
    for (const auto& buffers : flight) {
      const Call call = call_of(buffers);
      if (options_.nonblocking) {
        start_nonblocking(options_.op, call, requests_);
      } else {
        run_blocking(options_.op, call);
      }
    }
  }

  void wait() override {
    MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE);
    requests_.clear();
  }

 private:
  Call call_of(const Buffers& buffers) const {
    const bool empty = !buffers.output.defined();
    return {empty ? nullptr : buffers.input.const_data_ptr(),
            empty ? nullptr : buffers.output.mutable_data_ptr(),
            count(buffers.input),
            count(buffers.output),
            type_,
            rank_,
            size_};
  }

  /// MPI_Wait would spin, and take from the plain stream the core that it needs.
  static void wait_asleep(MPI_Request& request) {
    const auto limit = std::chrono::steady_clock::now() + kGatherLimit;
    for (int done = 0; MPI_Test(&request, &done, MPI_STATUS_IGNORE), !done;) {
      if (std::chrono::steady_clock::now() > limit)
        throw CommError("gather: no answer within 5 minutes");
      std::this_thread::sleep_for(kNap);
    }
  }

  MpiSubjectOptions options_;
  MPI_Datatype type_;
  int rank_ = 0;
  int size_ = 1;
  std::vector<MPI_Request> requests_;
};

}  // namespace

std::unique_ptr<Subject> make_mpi_subject(const MpiSubjectOptions& options) {
  return std::make_unique<MpiSubject>(options);
}

}  // namespace isobar::bench
