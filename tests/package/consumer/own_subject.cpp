// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/measure.hpp>
#include <isobar/comm/agreement.hpp>
#include <isobar/comm/make_communicator.hpp>

#include <cstdio>
#include <string>
#include <vector>

/// An allreduce of our own: each rank sums its part, then all parts go to all.
class TwoPhases final : public isobar::bench::Subject {
 public:
  explicit TwoPhases(isobar::Communicator& comm) : comm_(comm) {}

  std::string backend() const override { return "two_phases"; }
  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  void barrier() override { comm_.barrier().synchronize(); }
  std::vector<std::string> gather(const std::string& text) override {
    return isobar::gather_texts(comm_, text);
  }

  void start(const std::vector<isobar::bench::Buffers>& flight) override {
    for (const auto& buffers : flight) {
      const auto part = buffers.output.new_empty({buffers.output.numel() / size()});
      comm_.reduce_scatter(part, buffers.output).wait();
      comm_.all_gather(buffers.output, part).wait();
    }
  }
  void wait() override {}  // nothing is left in flight

 private:
  isobar::Communicator& comm_;
};

int main() {
  auto comm = isobar::make_communicator();
  TwoPhases subject(*comm);
  const auto bytes = int64_t{comm->size()} << 18;  // parts are equal
  const auto measured = isobar::bench::measure(subject, {.repeats = 20}, bytes);
  if (comm->rank() == 0) {
    const double gbit_s = isobar::bench::algbw_gbit_s(measured.bytes, measured.seconds.median);
    std::printf("%s: %.3f ms, %.2f Gbit/s, error %g\n", subject.backend().c_str(),
                1e3 * measured.seconds.median, gbit_s, measured.error);
  }
  return measured.error == 0 ? 0 : 1;
}
