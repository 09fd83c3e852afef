// SPDX-License-Identifier: Apache-2.0
#include <isobar/hdf5/tensors.hpp>
#include <ATen/ATen.h>

#include <cstdio>

int main(int, char** argv) {
  { isobar::Hdf5TensorWriter(argv[1]).write("a/b", at::arange(3)); }
  const isobar::Hdf5Tensors file(argv[1]);
  std::printf("sum %d\n", static_cast<int>(file.read("a/b").sum().item<double>()));
}
