// SPDX-License-Identifier: Apache-2.0
#include "field_file.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <algorithm>

#include "decoding.hpp"

namespace isobar::detail {
namespace {

bool same(const Coordinates& a, const Coordinates& b) {
  return a.time == b.time && a.latitude == b.latitude && a.longitude == b.longitude;
}

int64_t position(const VariableInfo& variable, const VariableInfo& coordinate) {
  if (coordinate.dimensions.empty()) return -1;
  const auto& names = variable.dimensions;
  const auto found = std::find(names.begin(), names.end(), coordinate.dimensions.front());
  return found == names.end() ? -1 : found - names.begin();
}

at::Tensor ordered(const at::Tensor& values, int64_t dimension, const Axis& axis) {
  return axis.order.defined() ? values.index_select(dimension, axis.order) : values;
}

}  // namespace

FieldFile::FieldFile(const std::string& path, const DatasetOptions& options) : file_(path) {
  const VariableInfo& first = file_.variable(options.variables.front());
  const Coordinates coordinates = find_coordinates(file_, first, options);
  for (const std::string& name : options.variables) {
    if (!same(find_coordinates(file_, file_.variable(name), options), coordinates)) {
      throw DataError(join(path, ": variables '", first.name, "' and '", name,
                           "' do not share their times and grid"));
    }
    layouts_.push_back(layout_of(name, coordinates));
  }
  latitudes_ = read_latitudes(file_, coordinates.latitude);
  longitudes_ = read_longitudes(file_, coordinates.longitude);
  read_times(coordinates.time);
  for (const Layout& layout : layouts_) check_shape(layout);
  find_blocks();
}

FieldFile::Layout FieldFile::layout_of(const std::string& name,
                                       const Coordinates& coordinates) const {
  const VariableInfo& variable = file_.variable(name);
  decoding_of(variable, path());  // throws for a variable of text
  const VariableInfo& time = file_.variable(coordinates.time);
  const Layout layout{name, position(variable, time),
                      position(variable, file_.variable(coordinates.latitude)),
                      position(variable, file_.variable(coordinates.longitude))};
  if (layout.latitude < 0 || layout.longitude < 0 || (layout.time < 0 && !time.shape.empty())) {
    throw DataError(join(path(), ": variable '", name, "' does not lie along '", coordinates.time,
                         "', '", coordinates.latitude, "' and '", coordinates.longitude, "'"));
  }
  return layout;
}

void FieldFile::check_shape(const Layout& layout) const {
  const VariableInfo& variable = file_.variable(layout.name);
  for (int64_t d = 0; d < static_cast<int64_t>(variable.shape.size()); ++d) {
    int64_t wanted = 1;
    if (d == layout.time) wanted = static_cast<int64_t>(times_.size());
    if (d == layout.latitude) wanted = static_cast<int64_t>(latitudes().size());
    if (d == layout.longitude) wanted = static_cast<int64_t>(longitudes().size());
    if (variable.shape[d] == wanted) continue;
    throw DataError(join(path(), ": variable '", layout.name, "', dimension '",
                         variable.dimensions[d], "' has length ", variable.shape[d], ", wanted ",
                         wanted));
  }
}

void FieldFile::read_times(const std::string& name) {
  const VariableInfo& variable = file_.variable(name);
  const at::Tensor values = file_.read(name).to(at::kDouble).reshape({-1});
  const std::string calendar = text_attribute(variable, "calendar");
  const auto* data = values.data_ptr<double>();
  try {
    calendar_ = calendar.empty() ? Calendar::standard : parse_calendar(calendar);
    times_ =
        decode_cf_time({data, data + values.numel()}, text_attribute(variable, "units"), calendar_);
  } catch (const DataError& error) {
    throw DataError(join(path(), ": coordinate '", name, "': ", error.what()));
  }
  if (times_.empty()) throw DataError(join(path(), ": coordinate '", name, "' has no times"));
}

void FieldFile::find_blocks() {
  for (const Layout& layout : layouts_) {
    const std::vector<int64_t>& chunk = file_.variable(layout.name).chunk;
    if (layout.time >= 0 && !chunk.empty())
      block_times_ = std::max(block_times_, chunk[layout.time]);
  }
}

std::string FieldFile::units(int64_t variable) const {
  return text_attribute(file_.variable(layouts_[variable].name), "units");
}

FieldFile::Band FieldFile::band_of(const at::Tensor& rows) const {
  const auto columns = static_cast<int64_t>(longitudes().size());
  if (!rows.defined()) return {0, static_cast<int64_t>(latitudes().size()), {}};
  if (rows.numel() == 0) return {0, 1, rows};
  const auto stored = [](const Axis& axis, const at::Tensor& positions) {
    return axis.order.defined() ? axis.order.index_select(0, positions) : positions;
  };
  const at::Tensor latitude = stored(latitudes_, at::floor_divide(rows, columns));
  const at::Tensor longitude = stored(longitudes_, at::remainder(rows, columns));
  const auto first = latitude.min().item<int64_t>();
  return {first, latitude.max().item<int64_t>() - first + 1,
          (latitude - first) * columns + longitude};
}

at::Tensor FieldFile::read(int64_t first, int64_t count, const at::Tensor& rows) const {
  const Band band = band_of(rows);
  std::vector<at::Tensor> columns;
  for (const Layout& layout : layouts_) {
    columns.push_back(read_variable(layout, first, count, band));
  }
  return at::stack(columns, 2);
}

at::Tensor FieldFile::read_variable(const Layout& layout, int64_t first, int64_t count,
                                    const Band& band) const {
  std::vector<int64_t> lengths = file_.variable(layout.name).shape;
  std::vector<int64_t> start(lengths.size(), 0);
  std::vector<int64_t> order;
  if (layout.time >= 0) {
    start[layout.time] = first;
    lengths[layout.time] = count;
    order.push_back(layout.time);
  }
  start[layout.latitude] = band.first;
  lengths[layout.latitude] = band.count;
  order.insert(order.end(), {layout.latitude, layout.longitude});
  for (int64_t d = 0; d < static_cast<int64_t>(lengths.size()); ++d) {
    if (std::find(order.begin(), order.end(), d) == order.end()) order.push_back(d);
  }
  const auto columns = static_cast<int64_t>(longitudes().size());
  at::Tensor values = file_.read(layout.name, start, lengths).to(at::kFloat).permute(order);
  values = values.reshape({count, band.count, columns});
  if (band.points.defined()) return values.flatten(1).index_select(1, band.points);
  return ordered(ordered(values, 1, latitudes_), 2, longitudes_).flatten(1);
}

}  // namespace isobar::detail
