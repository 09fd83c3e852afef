// SPDX-License-Identifier: Apache-2.0
// Called on every rank, on the thread that issues collectives. All ranks go through the same
// checks, barriers and repeats, since each of them is collective: rank 0 chooses how many repeats,
// and no rank decides by a time of its own. Inside the timed span are start() and wait() alone;
// checking, barriers and what is gathered afterwards stand outside of it.
#include <isobar/bench/measure.hpp>

#include <isobar/core/stopwatch.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "bench/cpu_meter.hpp"

namespace isobar::bench {
namespace {

constexpr double kWantedSeconds = 1;
constexpr int kFewestRepeats = 10;
constexpr int kMostRepeats = 1000;

std::string to_text(const std::vector<double>& values) {
  return fmt::format("{}", fmt::join(values, " "));
}

std::vector<double> to_numbers(const std::string& text) {
  std::vector<double> values;
  char* end = nullptr;
  for (const char* next = text.c_str(); *next; next = end) {
    values.push_back(std::strtod(next, &end));
    if (end == next) break;
  }
  return values;
}

double median_of(std::vector<double> values) { return summarize(std::move(values)).median; }

/// What one rank saw of the timed repeats.
struct Times {
  std::vector<double> seconds;
  std::vector<double> start_seconds;
  CpuMeter cpu;
  double softirq_cpu = 0;
};

class Run {
 public:
  Run(Subject& subject, const MeasureOptions& options, int64_t bytes)
      : subject_(subject),
        options_(options),
        values_(options.op, options.type, subject.rank(), subject.size()) {
    for (int i = 0; i < options.in_flight; ++i) {
      flight_.push_back(values_.make_buffers(bytes, options.device));
    }
  }

  Measurement measure() {
    const double before = check(/*round=*/1);
    for (const auto& buffers : flight_) values_.settle(buffers);
    for (int i = 0; i < options_.warmup; ++i) once();
    const auto times = time(agree_on_repeats());
    const double after = check(/*round=*/2);
    return over_ranks(times, std::max(before, after));
  }

 private:
  double once() {
    const Stopwatch watch;
    subject_.start(flight_);
    subject_.wait();
    fastest_s_ = std::min(fastest_s_, watch.elapsed_s());
    return watch.elapsed_s();
  }

  double check(int round) {
    for (const auto& buffers : flight_) values_.fill(buffers, round);
    subject_.barrier();
    once();
    double largest = 0;
    for (const auto& buffers : flight_) {
      largest = std::max(largest, values_.deviation(buffers, round));
    }
    return largest;
  }

  int agree_on_repeats() {
    if (options_.repeats > 0) return options_.repeats;
    return std::atoi(subject_.gather(std::to_string(choose_repeats(fastest_s_))).front().c_str());
  }

  Times time(int repeats) {
    Times times;
    const double softirq_s = machine_softirq_s();
    const Stopwatch span;
    for (int i = 0; i < repeats; ++i) {
      subject_.barrier();
      times.cpu.resume();
      Stopwatch watch;
      subject_.start(flight_);
      times.start_seconds.push_back(watch.elapsed_s() / options_.in_flight);
      subject_.wait();
      times.seconds.push_back(watch.elapsed_s() / options_.in_flight);
      times.cpu.pause();
    }
    times.softirq_cpu = (machine_softirq_s() - softirq_s) / span.elapsed_s();
    return times;
  }

  int64_t bytes() const {
    const auto& first = flight_.front();
    if (!first.input.defined()) return 0;
    return static_cast<int64_t>(std::max(first.input.nbytes(), first.output.nbytes()));
  }

  Measurement over_ranks(const Times& times, double error) {
    Measurement result;
    result.bytes = bytes();
    result.seconds = summarize(largest_over_ranks(subject_, times.seconds));
    const auto largest = largest_over_ranks(
        subject_, {median_of(times.start_seconds), times.cpu.other_threads_s() / times.cpu.wall_s(),
                   times.cpu.process_s() / times.cpu.wall_s(), times.softirq_cpu, error});
    result.start_s = largest[0];
    result.comm_thread_cpu = std::max(largest[1], 0.0);
    result.process_cpu = largest[2];
    result.softirq_cpu = largest[3];
    result.error = largest[4];
    return result;
  }

  Subject& subject_;
  const MeasureOptions& options_;
  ExactValues values_;
  std::vector<Buffers> flight_;
  double fastest_s_ = HUGE_VAL;
};

}  // namespace

Measurement measure(Subject& subject, const MeasureOptions& options, int64_t bytes) {
  return Run(subject, options, bytes).measure();
}

int choose_repeats(double seconds_each) {
  const double wanted = std::ceil(kWantedSeconds / seconds_each);
  return static_cast<int>(
      std::clamp(wanted, static_cast<double>(kFewestRepeats), static_cast<double>(kMostRepeats)));
}

std::vector<double> largest_over_ranks(Subject& subject, const std::vector<double>& values) {
  std::vector<double> largest(values.size(), -HUGE_VAL);
  for (const auto& text : subject.gather(to_text(values))) {
    const auto others = to_numbers(text);
    for (std::size_t i = 0; i < largest.size(); ++i) largest[i] = std::max(largest[i], others[i]);
  }
  return largest;
}

double algbw_gbit_s(int64_t bytes, double seconds) {
  return 8e-9 * static_cast<double>(bytes) / seconds;
}

}  // namespace isobar::bench
