// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/moments.hpp>

#include <algorithm>
#include <cmath>

namespace isobar {

void Moments::join(const Moments& part) {
  if (part.count == 0) return;
  const double total = count + part.count;
  const double apart = part.mean - mean;
  squares += part.squares + apart * apart * count * part.count / total;
  mean += apart * part.count / total;
  count = total;
  minimum = std::min(minimum, part.minimum);
  maximum = std::max(maximum, part.maximum);
}

double Moments::deviation() const { return count > 0 ? std::sqrt(squares / count) : 0; }

}  // namespace isobar
