// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

namespace isobar::test {

/// A matrix in rows of doubles.
using Rows = std::vector<std::vector<double>>;

inline Rows zeros(size_t rows, size_t columns) {
  return Rows(rows, std::vector<double>(columns, 0));
}

inline Rows rows_of(const at::Tensor& tensor) {
  Rows rows = zeros(tensor.size(0), tensor.size(1));
  const auto values = tensor.detach().to(at::kDouble).contiguous();
  const double* next = values.const_data_ptr<double>();
  for (auto& row : rows) {
    for (double& value : row) value = *next++;
  }
  return rows;
}

inline double largest_difference(const Rows& expected, const at::Tensor& got) {
  const Rows values = rows_of(got);
  double largest = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t j = 0; j < values[i].size(); ++j) {
      largest = std::max(largest, std::abs(values[i][j] - expected[i][j]));
    }
  }
  return largest;
}

/// Gram and Schmidt's orthonormal columns, one after another.
inline Rows orthonormal_columns(Rows a) {
  const size_t n = a.size(), r = a.front().size();
  for (size_t k = 0; k < r; ++k) {
    for (size_t l = 0; l < k; ++l) {
      double dot = 0;
      for (size_t i = 0; i < n; ++i) dot += a[i][k] * a[i][l];
      for (size_t i = 0; i < n; ++i) a[i][k] -= dot * a[i][l];
    }
    double square = 0;
    for (size_t i = 0; i < n; ++i) square += a[i][k] * a[i][k];
    for (size_t i = 0; i < n; ++i) a[i][k] /= std::sqrt(square);
  }
  return a;
}

/// a · b
inline Rows product(const Rows& a, const Rows& b) {
  Rows c = zeros(a.size(), b.front().size());
  for (size_t i = 0; i < c.size(); ++i) {
    for (size_t j = 0; j < c[i].size(); ++j) {
      for (size_t k = 0; k < b.size(); ++k) c[i][j] += a[i][k] * b[k][j];
    }
  }
  return c;
}

inline Rows transposed(const Rows& a) {
  Rows t = zeros(a.front().size(), a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].size(); ++j) t[j][i] = a[i][j];
  }
  return t;
}

/// a + factor · b
inline Rows plus(Rows a, double factor, const Rows& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].size(); ++j) a[i][j] += factor * b[i][j];
  }
  return a;
}

/// The two algorithms as their papers write them, for one matrix and all ranks at once:
/// P is n × r, Q is m × r.
struct PlainLowRank {
  PlainLowRank(size_t ranks, size_t rows, size_t columns, Rows first_q)
      : q(std::move(first_q)), residuals(ranks, zeros(rows, columns)) {}

  Rows acp_step(const std::vector<Rows>& gradients) {
    const bool computes_p = steps++ % 2 == 0;
    (computes_p ? q : p) = orthonormal_columns(computes_p ? q : p);
    Rows sum = zeros(computes_p ? residuals[0].size() : q.size(), q.front().size());
    for (size_t i = 0; i < gradients.size(); ++i) {
      const Rows w = plus(gradients[i], 1, residuals[i]);
      const Rows own = computes_p ? product(w, q) : product(transposed(w), p);
      const Rows sent = computes_p ? product(own, transposed(q)) : product(p, transposed(own));
      residuals[i] = plus(w, -1, sent);
      sum = plus(sum, 1, own);
    }
    (computes_p ? p : q) = sum;
    return mean(gradients.size());
  }

  Rows power_step(const std::vector<Rows>& gradients) {
    p = zeros(residuals[0].size(), q.front().size());
    for (size_t i = 0; i < gradients.size(); ++i) {
      p = plus(p, 1, product(plus(gradients[i], 1, residuals[i]), q));
    }
    p = orthonormal_columns(p);
    q = zeros(q.size(), q.front().size());
    for (size_t i = 0; i < gradients.size(); ++i) {
      const Rows w = plus(gradients[i], 1, residuals[i]);
      const Rows own = product(transposed(w), p);
      residuals[i] = plus(w, -1, product(p, transposed(own)));
      q = plus(q, 1, own);
    }
    return mean(gradients.size());
  }

  Rows mean(size_t ranks) const {
    return plus(zeros(residuals[0].size(), residuals[0][0].size()),
                1.0 / static_cast<double>(ranks), product(p, transposed(q)));
  }

  Rows p, q;
  std::vector<Rows> residuals;  ///< by rank
  int steps = 0;
};

}  // namespace isobar::test
