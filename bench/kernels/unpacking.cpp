// SPDX-License-Identifier: Apache-2.0
// Values of netCDF files in 16 bits, as HDF5 hands them over in float64: missing ones become NaN,
// the others scale · stored + offset in float32.
#include <isobar/data/netcdf.hpp>
#include <ATen/core/Tensor.h>

#include <limits>
#include <memory>

#include "bench/kernels/kernels.hpp"
#include "data/decoding.hpp"

namespace isobar::bench {
namespace {

constexpr double kScale = 0.01, kOffset = 273.15, kMissing = -32767;

/// One value in 16 is missing.
at::Tensor stored_values(int64_t count) {
  at::Tensor stored = zeros({count}, at::kShort);
  auto* data = stored.mutable_data_ptr<int16_t>();
  const auto drawn = plain_indices(indices(count, 65534, 1));
  for (int64_t i = 0; i < count; ++i) {
    data[i] = static_cast<int16_t>(drawn[i] % 16 == 0 ? -32767 : drawn[i] - 32766);
  }
  return stored;
}

Kernel unpack(Place place) {
  const int64_t count = rows_of(place) * kWidth / 2;
  VariableInfo variable;
  variable.name = "t";
  variable.type = "int16";
  variable.attributes = {{"_FillValue", std::vector<double>{kMissing}},
                         {"scale_factor", std::vector<double>{kScale}},
                         {"add_offset", std::vector<double>{kOffset}}};
  const auto decoding = isobar::decoding_of(variable, "kernel_bench");
  const auto stored = stored_values(count);
  const auto out = std::make_shared<at::Tensor>();
  const auto call = [=] { *out = isobar::decode(stored.to(at::kDouble), decoding); };
  const auto error = [=] {
    auto wanted = plain(stored);
    for (double& value : wanted) {
      value =
          value == kMissing ? std::numeric_limits<double>::quiet_NaN() : value * kScale + kOffset;
    }
    return deviation(*out, wanted);
  };
  return {.bytes = static_cast<double>(count) * (2 + 4),
          .operations = static_cast<double>(count) * 2,
          .call = call,
          .error = error,
          .tolerance = 1e-6};
}

}  // namespace

void add_unpacking(Kernels& kernels) {
  for (const Place place : {Place::cache, Place::memory}) {
    kernels.add("unpack_int16", place, [=] { return unpack(place); });
  }
}

}  // namespace isobar::bench
