// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

namespace isobar {

/// Count, mean, sum of squared deviations, and range of some values, in double precision.
struct Moments {
  double count = 0;
  double mean = 0;
  double squares = 0;
  double minimum = std::numeric_limits<double>::infinity();
  double maximum = -std::numeric_limits<double>::infinity();

  /// Takes in further values, given by their moments: T. F. Chan, G. H. Golub and R. J. LeVeque,
  /// "Updating formulae and a pairwise algorithm for computing sample variances", equation 2.1
  /// (1979). In another order the result differs by rounding.
  void join(const Moments& part);

  /// The standard deviation of a population (divided by the count); 0 without any value.
  double deviation() const;
};

}  // namespace isobar
