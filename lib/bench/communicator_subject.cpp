// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/communicator_subject.hpp>

#include <isobar/comm/agreement.hpp>

namespace isobar::bench {
namespace {

class CommunicatorSubject final : public Subject {
 public:
  CommunicatorSubject(Communicator& comm, Collective op) : comm_(comm), op_(op) {}

  std::string backend() const override { return std::string(comm_.backend()); }
  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }

  std::vector<std::string> gather(const std::string& text) override {
    return gather_texts(comm_, text);
  }

  void barrier() override { comm_.barrier().synchronize(); }

  void start(const std::vector<Buffers>& flight) override {
    for (const auto& buffers : flight) start(buffers);
  }

  void wait() override {
    for (auto& work : works_) work.synchronize();
    works_.clear();
  }

 private:
  void start(const Buffers& buffers) {
    if (op_ == Collective::send_receive) return start_ring(buffers);
    works_.push_back(issue(buffers));
  }

  Work issue(const Buffers& buffers) {
    switch (op_) {
      case Collective::allreduce:
        return comm_.allreduce(buffers.output);
      case Collective::reduce_scatter:
        return comm_.reduce_scatter(buffers.output, buffers.input);
      case Collective::all_gather:
        return comm_.all_gather(buffers.output, buffers.input);
      case Collective::all_to_all:
        return all_to_all(buffers);
      case Collective::broadcast:
        return comm_.broadcast(buffers.output, 0);
      default:
        return comm_.barrier();
    }
  }

  Work all_to_all(const Buffers& buffers) {
    const std::vector<int64_t> rows(comm_.size(), buffers.input.numel() / comm_.size());
    return comm_.all_to_all(buffers.output, buffers.input, rows, rows);
  }

  /// A rank alone has nobody to send to, and its neighbour is itself.
  void start_ring(const Buffers& buffers) {
    const int size = comm_.size();
    if (size == 1) {
      buffers.output.copy_(buffers.input);
      return;
    }
    works_.push_back(comm_.receive(buffers.output, (comm_.rank() + size - 1) % size));
    works_.push_back(comm_.send(buffers.input, (comm_.rank() + 1) % size));
  }

  Communicator& comm_;
  Collective op_;
  std::vector<Work> works_;
};

}  // namespace

std::unique_ptr<Subject> make_communicator_subject(Communicator& comm, Collective op) {
  return std::make_unique<CommunicatorSubject>(comm, op);
}

}  // namespace isobar::bench
