// SPDX-License-Identifier: Apache-2.0
// Least squares of relative errors: each sample is a row (terms / seconds) that should give 1. With
// four terms all fifteen sets of them are tried, which finds the best without negative coefficients
// and needs no iteration. Where a term cannot be told from others its column is dependent, and
// sets that hold both are left out.
#include <isobar/projection/network_model.hpp>

#include <isobar/core/error.hpp>
#include <isobar/ddp/step_model.hpp>
#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <Eigen/QR>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

namespace isobar {
namespace {

constexpr int kTerms = 4;
using Terms = Eigen::Matrix<double, 1, kTerms>;

Terms terms_of(std::int64_t bytes, int nodes, int node_ranks) {
  const double sent = allreduce_sent_fraction(nodes * node_ranks) * static_cast<double>(bytes);
  const double depth = std::log2(nodes);
  return {depth, sent, sent * (1 - 1.0 / nodes), std::sqrt(static_cast<double>(bytes)) * depth};
}

void check_samples_of_network(const std::vector<NetworkSample>& samples) {
  std::set<std::int64_t> sizes;
  bool has_nodes = false;
  for (const auto& [nodes, node_ranks, bytes, seconds] : samples) {
    ISOBAR_CHECK(nodes > 0 && node_ranks > 0 && bytes > 0 && std::isfinite(seconds) && seconds > 0,
                 "fit_network: a sample of ", bytes, " bytes over ", nodes, " nodes of ",
                 node_ranks, " ranks in ", seconds, " s, wanted positive values");
    sizes.insert(bytes);
    has_nodes = has_nodes || nodes > 1;
  }
  ISOBAR_CHECK(sizes.size() > 1, "fit_network: wanted two sizes or more, got ", sizes.size());
  ISOBAR_CHECK(has_nodes, "fit_network: wanted samples over two nodes or more, got one node's");
}

struct Solution {
  std::vector<int> columns;
  Eigen::VectorXd values;
  double squares = 0;
};

/// With the columns of this set alone; nothing where one depends on others or comes out negative.
std::optional<Solution> solve(const Eigen::MatrixXd& rows, unsigned set) {
  Solution solution;
  for (int c = 0; c < kTerms; ++c) {
    if ((set >> c) & 1U) solution.columns.push_back(c);
  }
  const Eigen::MatrixXd chosen = rows(Eigen::all, solution.columns);
  const Eigen::VectorXd scale = chosen.colwise().norm();
  if (scale.minCoeff() == 0) return std::nullopt;
  const Eigen::MatrixXd scaled = chosen * scale.cwiseInverse().asDiagonal();
  const Eigen::ColPivHouseholderQR<Eigen::MatrixXd> decomposition(scaled);
  if (decomposition.rank() < static_cast<Eigen::Index>(solution.columns.size())) {
    return std::nullopt;
  }
  const Eigen::VectorXd ones = Eigen::VectorXd::Ones(rows.rows());
  const Eigen::VectorXd scaled_values = decomposition.solve(ones);
  if (scaled_values.minCoeff() < 0) return std::nullopt;
  solution.values = scaled_values.cwiseQuotient(scale);
  solution.squares = (scaled * scaled_values - ones).squaredNorm();
  return solution;
}

/// L of the coefficients' covariance, variance * (A^T A)^-1 of the chosen columns.
void write_spread(const Eigen::MatrixXd& rows, const Solution& solution, double variance,
                  NetworkFit& fit) {
  const Eigen::MatrixXd chosen = rows(Eigen::all, solution.columns);
  const Eigen::VectorXd scale = chosen.colwise().norm();
  const Eigen::MatrixXd scaled = chosen * scale.cwiseInverse().asDiagonal();
  const Eigen::MatrixXd covariance = variance * (scaled.transpose() * scaled).inverse();
  const Eigen::MatrixXd lower = covariance.llt().matrixL();
  for (std::size_t i = 0; i < solution.columns.size(); ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      fit.spread[solution.columns[i]][solution.columns[j]] = lower(i, j) / scale(i);
    }
  }
}

NetworkModel model_of(const std::array<double, kTerms>& values) {
  return {.hop_s = values[0], .byte_s = values[1], .spread_byte_s = values[2], .fill_s = values[3]};
}

/// Samples that no network has made, such as one in other units.
void check_residual(const std::vector<NetworkSample>& samples, const NetworkFit& fit) {
  constexpr double kMost = 0.9;
  if (fit.residual <= kMost) return;
  const auto error = [&](const NetworkSample& s) {
    return std::abs(
        std::log(std::max(fit.model.seconds(s.bytes, s.nodes, s.node_ranks), 1e-12) / s.seconds));
  };
  const auto& worst =
      *std::max_element(samples.begin(), samples.end(),
                        [&](const auto& a, const auto& b) { return error(a) < error(b); });
  throw UsageError(
      detail::join("fit_network: no network takes such times: the best is off by ",
                   std::lround(100 * fit.residual), " %, and most by the ", worst.seconds * 1e6,
                   " us of ", worst.bytes, " bytes over ", worst.nodes,
                   " nodes; look at the units of each sample (microseconds in network.allreduce)"));
}

std::array<double, kTerms> values_of(const NetworkModel& model) {
  return {model.hop_s, model.byte_s, model.spread_byte_s, model.fill_s};
}

}  // namespace

double NetworkModel::seconds(std::int64_t bytes, int nodes, int node_ranks) const {
  ISOBAR_CHECK(bytes >= 0 && nodes > 0 && node_ranks > 0, "NetworkModel: an allreduce of ", bytes,
               " bytes over ", nodes, " nodes of ", node_ranks,
               " ranks; wanted a node and a rank at least, and no negative size");
  if (nodes * node_ranks == 1 || bytes == 0) return 0;
  const auto values = values_of(*this);
  return terms_of(bytes, nodes, node_ranks).dot(Eigen::Map<const Terms>(values.data()));
}

NetworkModel NetworkFit::draw(const std::function<double()>& normal) const {
  std::array<double, kTerms> numbers{};
  for (double& number : numbers) number = normal();
  auto values = values_of(model);
  for (int i = 0; i < kTerms; ++i) {
    for (int j = 0; j <= i; ++j) values[i] += spread[i][j] * numbers[j];
    values[i] = std::max(0.0, values[i]);
  }
  return model_of(values);
}

NetworkFit fit_network(const std::vector<NetworkSample>& samples) {
  check_samples_of_network(samples);
  Eigen::MatrixXd rows(samples.size(), kTerms);
  std::set<int> nodes;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto& sample = samples[i];
    rows.row(static_cast<Eigen::Index>(i)) =
        terms_of(sample.bytes, sample.nodes, sample.node_ranks) / sample.seconds;
    nodes.insert(sample.nodes);
  }
  // One number of nodes says nothing of how terms grow with them.
  const unsigned sets = nodes.size() > 1 ? 1U << kTerms : 1U << 2;
  std::optional<Solution> best;
  for (unsigned set = 1; set < sets; ++set) {
    auto solution = solve(rows, set);
    if (solution && (!best || solution->squares < best->squares)) best = std::move(solution);
  }
  ISOBAR_CHECK(best, "fit_network: no term has a positive coefficient");
  std::array<double, kTerms> values{};
  for (std::size_t i = 0; i < best->columns.size(); ++i) {
    values[best->columns[i]] = best->values(static_cast<Eigen::Index>(i));
  }
  NetworkFit fit{.model = model_of(values)};
  const auto left = static_cast<double>(samples.size()) - static_cast<double>(best->columns.size());
  if (left > 0) {
    fit.residual = std::sqrt(best->squares / left);
    check_residual(samples, fit);
    write_spread(rows, *best, fit.residual * fit.residual, fit);
  }
  return fit;
}

NetworkModel ideal_network(double node_bit_s, double hop_s) {
  ISOBAR_CHECK(node_bit_s > 0 && hop_s >= 0, "ideal_network: a rate of ", node_bit_s, " bit/s and ",
               hop_s, " s a hop; wanted a positive rate and no negative time");
  return {.hop_s = hop_s, .byte_s = 8 / node_bit_s};
}

}  // namespace isobar
