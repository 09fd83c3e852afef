// SPDX-License-Identifier: Apache-2.0
#include <isobar/launch/environment.hpp>

#include <cstdio>

int main() {
  const auto launch = isobar::read_launch_environment();
  std::printf("rank %d of %d by %s\n", launch.rank, launch.size, launch.launcher.c_str());
}
