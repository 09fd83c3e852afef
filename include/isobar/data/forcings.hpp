// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <isobar/data/cf_time.hpp>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace isobar {

/// The forcings that can be computed:
///
/// - cos_latitude, sin_latitude, cos_longitude, sin_longitude
/// - cos_local_time, sin_local_time: of local mean solar time, UTC plus
///   longitude / 15 hours, as a fraction of the day; midnight is angle 0
/// - cos_day_of_year, sin_day_of_year: of the days since 1 January, with their
///   fraction, over 365.25 (over 365 or 360 in calendars of that length)
/// - insolation: cosine of the solar zenith angle, 0 where the sun is down
const std::vector<std::string>& forcing_names();

/// Throws UsageError with the nearest name for one that is not computed.
void check_forcings(const std::vector<std::string>& names);

/// Forcings at one time, float32 [points, names], for latitudes and longitudes
/// in degrees [points]; computed in double precision.
at::Tensor compute_forcings(const std::vector<std::string>& names, const at::Tensor& latitudes,
                            const at::Tensor& longitudes, int64_t seconds,
                            Calendar calendar = Calendar::standard);

/// Where the sun stands: the declination, and by how much apparent solar time
/// is ahead of mean solar time, both in radians.
struct SolarPosition {
  double declination = 0;
  double equation_of_time = 0;
};

/// J. W. Spencer, "Fourier series representation of the position of the sun",
/// Search 2 (5), 172 (1971), with the angle counted from 1950, the year of the
/// almanac the series was fitted to, in tropical years. Between 2000 and 2030
/// the declination is within 0.09 degrees and the equation of time within 0.16
/// degrees (38 s) of the Astronomical Almanac's low-precision formulas.
SolarPosition solar_position(int64_t seconds, Calendar calendar = Calendar::standard);

}  // namespace isobar
