// SPDX-License-Identifier: Apache-2.0
#include <isobar/ddp/step_model.hpp>

#include <isobar/core/error.hpp>

#include <algorithm>

namespace isobar {
namespace {

void check_samples(const std::vector<AllreduceSample>& samples, int ranks) {
  ISOBAR_CHECK(ranks > 1, "fit_allreduce_cost: wanted two ranks or more, got ", ranks);
  bool sizes_differ = false;
  for (const auto& sample : samples) {
    ISOBAR_CHECK(sample.bytes > 0 && sample.seconds > 0, "fit_allreduce_cost: a sample of ",
                 sample.bytes, " bytes in ", sample.seconds, " s, wanted positive values");
    sizes_differ = sizes_differ || sample.bytes != samples.front().bytes;
  }
  ISOBAR_CHECK(sizes_differ, "fit_allreduce_cost: wanted two different sizes or more, got ",
               samples.size(), " samples of one");
}

/// Sums over the samples that the normal equations need, each weighted with 1 / seconds^2.
struct Moments {
  double weight = 0, x = 0, xx = 0, t = 0, xt = 0;
};

Moments moments_of(const std::vector<AllreduceSample>& samples, int ranks) {
  Moments sum;
  for (const auto& [bytes, seconds] : samples) {
    const double w = 1 / (seconds * seconds);
    const double x = allreduce_sent_fraction(ranks) * static_cast<double>(bytes);
    sum.weight += w;
    sum.x += w * x;
    sum.xx += w * x * x;
    sum.t += w * seconds;
    sum.xt += w * x * seconds;
  }
  return sum;
}

void check_compute(const StepCompute& compute) {
  ISOBAR_CHECK(compute.forward_s >= 0 && compute.backward_s >= 0 && compute.optimizer_s >= 0,
               "predict_step: forward ", compute.forward_s, " s, backward ", compute.backward_s,
               " s and optimizer ", compute.optimizer_s, " s must not be negative");
  for (const auto& bucket : compute.buckets) {
    ISOBAR_CHECK(bucket.ready_s >= 0 && bucket.bytes >= 0, "predict_step: a bucket of ",
                 bucket.bytes, " bytes is ready at ", bucket.ready_s,
                 " s; neither may be negative");
  }
}

double bound(const StepCompute& compute, const AllreduceCost& cost, int ranks) {
  const double first =
      compute.buckets.empty() ? compute.backward_s : compute.buckets.front().ready_s;
  int64_t bytes = 0;
  for (const auto& bucket : compute.buckets) bytes += bucket.bytes;
  const AllreduceCost without_latency{.latency_s = 0, .bytes_per_s = cost.bytes_per_s};
  return compute.forward_s + first +
         std::max(compute.backward_s - first, without_latency.seconds(bytes, ranks)) +
         compute.optimizer_s;
}

}  // namespace

double allreduce_sent_fraction(int ranks) {
  ISOBAR_CHECK(ranks > 0, "allreduce_sent_fraction: wanted a rank at least, got ", ranks);
  return 2.0 * (ranks - 1) / ranks;
}

double AllreduceCost::seconds(int64_t bytes, int ranks) const {
  const double sent = allreduce_sent_fraction(ranks) * static_cast<double>(bytes);
  ISOBAR_CHECK(bytes >= 0, "AllreduceCost: bytes must not be negative, got ", bytes);
  if (ranks == 1) return 0;
  ISOBAR_CHECK(bytes_per_s > 0, "AllreduceCost: bytes_per_s must be positive, got ", bytes_per_s);
  return latency_s + sent / bytes_per_s;
}

AllreduceCost fit_allreduce_cost(const std::vector<AllreduceSample>& samples, int ranks) {
  check_samples(samples, ranks);
  const auto m = moments_of(samples, ranks);
  double slope = (m.weight * m.xt - m.x * m.t) / (m.weight * m.xx - m.x * m.x);
  double latency = (m.t - slope * m.x) / m.weight;
  if (latency < 0) {
    latency = 0;
    slope = m.xt / m.xx;
  }
  ISOBAR_CHECK(slope > 0, "fit_allreduce_cost: the ", samples.size(),
               " samples take no longer the larger they are; measure larger sizes");
  return {.latency_s = latency, .bytes_per_s = 1 / slope};
}

StepPrediction predict_step(const StepCompute& compute, const AllreduceCost& cost, int ranks) {
  check_compute(compute);
  StepPrediction result;
  double wire_free_s = 0;
  for (const auto& bucket : compute.buckets) {
    wire_free_s = std::max(bucket.ready_s, wire_free_s) + cost.seconds(bucket.bytes, ranks);
    result.end_s.push_back(wire_free_s);
  }
  result.exposed_comm_s = std::max(0.0, wire_free_s - compute.backward_s);
  result.step_s =
      compute.forward_s + compute.backward_s + result.exposed_comm_s + compute.optimizer_s;
  result.bound_s = bound(compute, cost, ranks);
  return result;
}

}  // namespace isobar
