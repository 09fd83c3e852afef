// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/grid.hpp>

namespace isobar {

Grid make_gaussian_grid(const std::string& name) {
  throw UsageError(
      "make_gaussian_grid: " + name +
      " needs ECMWF Atlas, which this build is without; install libatlas-ecmwf-dev and "
      "configure again with ISOBAR_ATLAS=ON");
}

}  // namespace isobar
