// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/forcings.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numbers>

namespace isobar {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;
constexpr double kSolarDaySeconds = 86400;

/// All that a forcing may depend on; angles in radians.
struct ForcingInputs {
  at::Tensor latitude;
  at::Tensor longitude;
  double day_angle = 0;   // of mean solar time at Greenwich; 0 at midnight
  double year_angle = 0;  // of the day of the year
  SolarPosition sun;
};

double year_days(Calendar calendar) {
  if (calendar == Calendar::noleap) return 365;
  return calendar == Calendar::day_360 ? 360 : 365.25;
}

at::Tensor same_everywhere(const ForcingInputs& inputs, double value) {
  return at::full_like(inputs.latitude, value);
}

/// sin(lat) sin(dec) + cos(lat) cos(dec) cos(hour angle), the hour angle being
/// 0 at apparent noon.
at::Tensor insolation(const ForcingInputs& inputs) {
  const at::Tensor hour_angle =
      inputs.longitude + (inputs.day_angle + inputs.sun.equation_of_time - std::numbers::pi);
  const at::Tensor cosine =
      at::sin(inputs.latitude) * std::sin(inputs.sun.declination) +
      at::cos(inputs.latitude) * std::cos(inputs.sun.declination) * at::cos(hour_angle);
  return cosine.clamp_min(0);
}

using Forcing = std::function<at::Tensor(const ForcingInputs&)>;

const std::map<std::string, Forcing>& forcings() {
  static const std::map<std::string, Forcing> table = {
      {"cos_latitude", [](const ForcingInputs& p) { return at::cos(p.latitude); }},
      {"sin_latitude", [](const ForcingInputs& p) { return at::sin(p.latitude); }},
      {"cos_longitude", [](const ForcingInputs& p) { return at::cos(p.longitude); }},
      {"sin_longitude", [](const ForcingInputs& p) { return at::sin(p.longitude); }},
      {"cos_local_time", [](const ForcingInputs& p) { return at::cos(p.longitude + p.day_angle); }},
      {"sin_local_time", [](const ForcingInputs& p) { return at::sin(p.longitude + p.day_angle); }},
      {"cos_day_of_year",
       [](const ForcingInputs& p) { return same_everywhere(p, std::cos(p.year_angle)); }},
      {"sin_day_of_year",
       [](const ForcingInputs& p) { return same_everywhere(p, std::sin(p.year_angle)); }},
      {"insolation", insolation},
  };
  return table;
}

ForcingInputs inputs_of(const at::Tensor& latitudes, const at::Tensor& longitudes, int64_t seconds,
                        Calendar calendar) {
  ISOBAR_CHECK(latitudes.dim() == 1 && latitudes.sizes() == longitudes.sizes(),
               "compute_forcings: ", latitudes.numel(), " latitudes and ", longitudes.numel(),
               " longitudes; wanted one of each a point");
  ForcingInputs inputs;
  inputs.latitude = at::deg2rad(latitudes.to(at::kDouble));
  inputs.longitude = at::deg2rad(longitudes.to(at::kDouble));
  const double days = static_cast<double>(seconds) / kSolarDaySeconds;
  inputs.day_angle = kTurn * (days - std::floor(days));
  inputs.year_angle = kTurn * day_of_year(seconds, calendar) / year_days(calendar);
  inputs.sun = solar_position(seconds, calendar);
  return inputs;
}

}  // namespace

const std::vector<std::string>& forcing_names() {
  static const std::vector<std::string> names = {
      "cos_latitude",   "sin_latitude",    "cos_longitude",   "sin_longitude", "cos_local_time",
      "sin_local_time", "cos_day_of_year", "sin_day_of_year", "insolation"};
  return names;
}

void check_forcings(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    ISOBAR_CHECK(forcings().count(name) > 0, "unknown forcing '", name, "'; ",
                 did_you_mean(name, forcing_names()));
  }
}

at::Tensor compute_forcings(const std::vector<std::string>& names, const at::Tensor& latitudes,
                            const at::Tensor& longitudes, int64_t seconds, Calendar calendar) {
  check_forcings(names);
  const ForcingInputs inputs = inputs_of(latitudes, longitudes, seconds, calendar);
  at::Tensor result =
      at::empty({latitudes.size(0), static_cast<int64_t>(names.size())}, at::kFloat);
  for (std::size_t f = 0; f < names.size(); ++f) {
    result.select(1, static_cast<int64_t>(f)).copy_(forcings().at(names[f])(inputs));
  }
  return result;
}

SolarPosition solar_position(int64_t seconds, Calendar calendar) {
  // Days from the midnight that began 1950, over the tropical year. Calendars
  // of whole-day years keep their seasons in place by their own year.
  constexpr double kDaysFrom1950To1970 = 7305;
  const double days = static_cast<double>(seconds) / kSolarDaySeconds;
  const bool real = calendar == Calendar::standard || calendar == Calendar::proleptic_gregorian;
  const double years = real ? (days + kDaysFrom1950To1970) / 365.2422 : days / year_days(calendar);
  const double t = kTurn * (years - std::floor(years));
  const double declination = 0.006918 - 0.399912 * std::cos(t) + 0.070257 * std::sin(t) -
                             0.006758 * std::cos(2 * t) + 0.000907 * std::sin(2 * t) -
                             0.002697 * std::cos(3 * t) + 0.001480 * std::sin(3 * t);
  // 0.0000075 as in the paper; 0.000075, found in many copies, is a misprint.
  const double equation_of_time = 0.0000075 + 0.001868 * std::cos(t) - 0.032077 * std::sin(t) -
                                  0.014615 * std::cos(2 * t) - 0.040849 * std::sin(2 * t);
  return {declination, equation_of_time};
}

}  // namespace isobar
