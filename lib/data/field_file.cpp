// SPDX-License-Identifier: Apache-2.0
// One file as a data set sees it. Dataset opens it on one thread and then reads from any; nothing
// here changes after construction, and NetcdfFile serialises what enters HDF5. A variable may have
// its dimensions in any order: Layout says which is which, and what is read is permuted to
// [times, latitudes, longitudes] and then to isobar's order of points.
#include "field_file.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <ATen/ATen.h>

#include <algorithm>

namespace isobar {
namespace {

int64_t position(const VariableInfo& variable, const std::string& dimension) {
  const auto& names = variable.dimensions;
  const auto found = std::find(names.begin(), names.end(), dimension);
  return found == names.end() ? -1 : found - names.begin();
}

at::Tensor ordered(const at::Tensor& values, int64_t dimension, const Axis& axis) {
  return axis.order.defined() ? values.index_select(dimension, axis.order) : values;
}

std::string dimension_of(const NetcdfFile& file, const std::string& axis) {
  const VariableInfo& coordinate = file.variable(axis);
  return coordinate.dimensions.empty() ? std::string{} : coordinate.dimensions.front();
}

std::map<std::string, int64_t> first_of_each(const Selected& selected) {
  std::map<std::string, int64_t> first;
  for (const auto& [dimension, positions] : selected) first[dimension] = positions.front();
  return first;
}

[[noreturn]] void fail_without_time(const NetcdfFile& file, const VariableInfo& variable,
                                    const TimeNames& names) {
  if (!names.reference.empty()) {
    throw DataError(detail::join(
        file.path(), ": coordinate '", names.reference, "' of variable '", variable.name,
        "' is when forecasts began (forecast_reference_time), not when they are "
        "valid, and no forecast_period is there to add to it; name the "
        "coordinate of valid times in the options (data.time)"));
  }
  throw DataError(detail::join(
      file.path(), ": variable '", variable.name, "' has no time coordinate among its dimensions (",
      join_words(variable.dimensions), "); name it in the options (data.time)"));
}

}  // namespace

FieldFile::FieldFile(const std::string& path, const DatasetOptions& options) : file_(path) {
  const GridNames grid = find_grid(file_, file_.variable(options.variables.front()), options);
  const TimeNames names = find_times(options, grid);
  const auto selected = find_selected(file_, options.variables, options.select);
  time_ = read_time_axis(file_, names, first_of_each(selected));
  latitudes_ = read_latitudes(file_, grid.latitude);
  longitudes_ = read_longitudes(file_, grid.longitude);
  for (const std::string& name : options.variables) {
    layouts_.push_back(layout_of(name, grid, selected));
    check_shape(layouts_.back(), selected);
  }
  find_blocks();
}

/// The times of the first variable that has any, which are those of all others that have.
TimeNames FieldFile::find_times(const DatasetOptions& options, const GridNames& grid) const {
  TimeNames shared;
  std::string owner;
  for (const std::string& name : options.variables) {
    const VariableInfo& variable = file_.variable(name);
    const TimeNames own = find_time(file_, variable, options.time);
    const bool differs = !owner.empty() && own.known() && !(own == shared);
    if (differs || !(find_grid(file_, variable, options) == grid)) {
      throw DataError(detail::join(path(), ": variables '", options.variables.front(), "' and '",
                                   name, "' do not share their times and grid"));
    }
    if (!own.known() || !owner.empty()) continue;
    shared = own;
    owner = name;
  }
  const VariableInfo& first = file_.variable(options.variables.front());
  if (owner.empty()) fail_without_time(file_, first, find_time(file_, first, options.time));
  return shared;
}

FieldFile::Layout FieldFile::layout_of(const std::string& name, const GridNames& grid,
                                       const Selected& selected) const {
  const VariableInfo& variable = file_.variable(name);
  decoding_of(variable, path());  // throws for a variable of text
  Layout layout{.name = name,
                .time = {},
                .latitude = position(variable, dimension_of(file_, grid.latitude)),
                .longitude = position(variable, dimension_of(file_, grid.longitude)),
                .starts = {std::vector<int64_t>(variable.shape.size(), 0)}};
  if (layout.latitude < 0 || layout.longitude < 0) {
    throw DataError(detail::join(path(), ": variable '", name, "' does not lie along '",
                                 grid.latitude, "' and '", grid.longitude, "'"));
  }
  for (const std::string& dimension : time_.dimensions) {
    const int64_t found = position(variable, dimension);
    if (found >= 0) layout.time.push_back(found);
  }
  if (!layout.time.empty() && layout.time.size() < time_.dimensions.size()) {
    throw DataError(detail::join(path(), ": variable '", name,
                                 "' lies along some of the times' dimensions (",
                                 join_words(time_.dimensions), ") but not all"));
  }
  for (const auto& [dimension, positions] : selected) {
    const int64_t found = position(variable, dimension);
    if (found < 0) continue;
    std::vector<std::vector<int64_t>> all;
    for (const std::vector<int64_t>& start : layout.starts) {
      for (const int64_t position : positions) {
        all.push_back(start);
        all.back()[found] = position;
      }
    }
    layout.starts = std::move(all);
  }
  return layout;
}

void FieldFile::check_shape(const Layout& layout, const Selected& selected) const {
  const VariableInfo& variable = file_.variable(layout.name);
  for (int64_t d = 0; d < static_cast<int64_t>(variable.shape.size()); ++d) {
    const std::string& dimension = variable.dimensions[d];
    const auto time = std::find(layout.time.begin(), layout.time.end(), d);
    const bool axis = d == layout.latitude || d == layout.longitude || time != layout.time.end();
    if (!axis && selected.count(dimension) > 0) continue;
    if (!axis && variable.shape[d] > 1) fail_unselected(file_, variable, dimension);
    if (axis && selected.count(dimension) > 0) {
      throw DataError(
          detail::join(path(), ": data.select.", dimension, ": it is an axis of the fields"));
    }
    int64_t wanted = 1;
    if (time != layout.time.end()) wanted = time_.lengths[time - layout.time.begin()];
    if (d == layout.latitude) wanted = static_cast<int64_t>(latitudes().size());
    if (d == layout.longitude) wanted = static_cast<int64_t>(longitudes().size());
    if (variable.shape[d] == wanted) continue;
    throw DataError(detail::join(path(), ": variable '", layout.name, "', dimension '", dimension,
                                 "' has length ", variable.shape[d], ", wanted ", wanted));
  }
}

/// Along two dimensions of time, blocks are parts of the fast one that divide it, or all of it.
void FieldFile::find_blocks() {
  for (const Layout& layout : layouts_) {
    const std::vector<int64_t>& chunk = file_.variable(layout.name).chunk;
    if (layout.time.empty() || chunk.empty()) continue;
    int64_t block = chunk[layout.time.back()];
    if (layout.time.size() == 2) {
      const int64_t fast = time_.lengths.back();
      if (block < fast && fast % block != 0) block = fast;
      if (block >= fast) block = fast * chunk[layout.time.front()];
    }
    block_times_ = std::max(block_times_, block);
  }
  block_times_ = std::min(block_times_, static_cast<int64_t>(times().size()));
}

std::string FieldFile::units(int64_t variable) const {
  return text_attribute(file_.variable(layouts_[variable].name), "units");
}

Decoding::Limits FieldFile::limits(int64_t variable) const {
  return declared_limits(decoding_of(file_.variable(layouts_[variable].name), path()));
}

std::vector<std::string> FieldFile::warnings() const {
  std::vector<std::string> all = latitudes_.warnings;
  all.insert(all.end(), longitudes_.warnings.begin(), longitudes_.warnings.end());
  return all;
}

std::string FieldFile::rewriting_command() const {
  const auto stored = std::find_if(layouts_.begin(), layouts_.end(),
                                   [](const Layout& layout) { return !layout.time.empty(); });
  const VariableInfo& variable = file_.variable(stored->name);
  std::vector<std::string> chunks;
  for (int64_t d = 0; d < static_cast<int64_t>(variable.shape.size()); ++d) {
    const bool whole = d == stored->latitude || d == stored->longitude;
    chunks.push_back(detail::join(variable.dimensions[d], "/", whole ? variable.shape[d] : 1));
  }
  return detail::join("nccopy -d 1 -s -c ", join_words(chunks, ","), " IN.nc OUT.nc");
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

/// [count, points]
at::Tensor FieldFile::read_variable(const Layout& layout, int64_t first, int64_t count,
                                    const Band& band) const {
  at::Tensor values;
  if (layout.time.empty()) {
    const at::Tensor one = read_stored(layout, {}, {}, band);
    values = one.expand({count, -1, -1});
  } else if (layout.time.size() == 1) {
    values = read_stored(layout, {first}, {count}, band);
  } else {
    // Along the fast dimension as far as it goes, for each position along the slow one.
    const int64_t fast = time_.lengths.back();
    std::vector<at::Tensor> parts;
    for (int64_t done = 0; done < count;) {
      const int64_t slow = (first + done) / fast, from = (first + done) % fast;
      const int64_t part = std::min(fast - from, count - done);
      parts.push_back(read_stored(layout, {slow, from}, {1, part}, band));
      done += part;
    }
    values = at::cat(parts);
  }
  if (band.points.defined()) return values.flatten(1).index_select(1, band.points);
  return ordered(ordered(values, 1, latitudes_), 2, longitudes_).flatten(1);
}

/// [times, latitudes of the band, longitudes] as they are stored.
at::Tensor FieldFile::read_stored(const Layout& layout, const std::vector<int64_t>& time_start,
                                  const std::vector<int64_t>& time_count, const Band& band) const {
  std::vector<int64_t> lengths(layout.starts.front().size(), 1), order;
  int64_t times = 1;
  for (std::size_t t = 0; t < layout.time.size(); ++t) {
    lengths[layout.time[t]] = time_count[t];
    times *= time_count[t];
    order.push_back(layout.time[t]);
  }
  const auto columns = static_cast<int64_t>(longitudes().size());
  lengths[layout.latitude] = band.count;
  lengths[layout.longitude] = columns;
  order.insert(order.end(), {layout.latitude, layout.longitude});
  for (int64_t d = 0; d < static_cast<int64_t>(lengths.size()); ++d) {
    if (std::find(order.begin(), order.end(), d) == order.end()) order.push_back(d);
  }
  at::Tensor values;
  for (std::vector<int64_t> start : layout.starts) {
    for (std::size_t t = 0; t < layout.time.size(); ++t) start[layout.time[t]] = time_start[t];
    start[layout.latitude] = band.first;
    const at::Tensor own = file_.read(layout.name, start, lengths).to(at::kFloat);
    values = values.defined() ? at::where(values.isnan(), own, values) : own;
  }
  return values.permute(order).reshape({times, band.count, columns});
}

}  // namespace isobar
