// SPDX-License-Identifier: Apache-2.0
// Fields of several files in time. Built on one thread, read from any: files do not change once
// open, and the cache is used under the mutex, which is held while a block is decoded so that no
// two threads decode the same one. Every value that leaves here has been looked at: it is a number
// that a variable of the weather can have, or missing.
#include <isobar/data/dataset.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <isobar/data/units.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <set>
#include <utility>

#include "block_cache.hpp"
#include "cadence.hpp"
#include "field_file.hpp"
#include "rows.hpp"

namespace isobar {
namespace {

using detail::join;

/// Beyond what variables of the weather are, unless the file's limits say so; fill values that a
/// file does not declare, such as 1e20 and 9.97e36, are.
constexpr float kLargestValue = 1e15F;

/// A chunk of more times than this is worth a word where its data are not kept in memory.
constexpr int64_t kManyBlockTimes = 4;

void check_dataset_options(const DatasetOptions& options) {
  ISOBAR_CHECK(!options.paths.empty(), "Dataset: no file given");
  ISOBAR_CHECK(!options.variables.empty(), "Dataset: no variable given");
  std::set<std::string> seen;
  for (const std::string& name : options.variables) {
    ISOBAR_CHECK(seen.insert(name).second, "Dataset: variable '", name, "' is given twice");
  }
}

std::vector<FieldFile> open_files(const DatasetOptions& options) {
  std::vector<FieldFile> files;
  for (const std::string& path : options.paths) files.emplace_back(path, options);
  std::stable_sort(files.begin(), files.end(), [](const FieldFile& a, const FieldFile& b) {
    return a.times().front() < b.times().front();
  });
  return files;
}

/// Axes that programs compute differ by rounding.
constexpr double kSameAxis = 1e-3;  // of the spacing

bool same_axis(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return false;
  double spacing = a.size() > 1 ? std::abs(a[1] - a[0]) : 1;
  for (std::size_t i = 2; i < a.size(); ++i) {
    spacing = std::min(spacing, std::abs(a[i] - a[i - 1]));
  }
  return std::equal(a.begin(), a.end(), b.begin(),
                    [&](double x, double y) { return std::abs(x - y) <= kSameAxis * spacing; });
}

void check_same_grid(const FieldFile& first, const FieldFile& other) {
  const auto fail = [&](const std::string& what) {
    throw DataError(join(other.path(), ": has ", what, " than ", first.path()));
  };
  if (other.calendar() != first.calendar()) fail("another calendar");
  if (!same_axis(other.latitudes(), first.latitudes())) fail("other latitudes");
  if (!same_axis(other.longitudes(), first.longitudes())) fail("other longitudes");
}

bool all_usual(const at::Tensor& values) {
  const auto* data = values.data_ptr<float>();
  const int64_t count = values.numel();
  bool odd = false;
  for (int64_t i = 0; i < count; ++i) odd |= !(std::abs(data[i]) < kLargestValue);
  return !odd;
}

/// Whether values lie outside of those possible, of each variable [..., variables].
at::Tensor outside(const at::Tensor& values, const FieldFile& file) {
  const int64_t variables = values.size(-1);
  const float greatest = std::numeric_limits<float>::max();
  const at::Tensor lowest = at::empty({variables}), highest = at::empty({variables});
  for (int64_t v = 0; v < variables; ++v) {
    const auto limits = file.limits(v);
    const auto limit = [&](double declared) {
      const bool says_more = std::isfinite(declared) && declared > kLargestValue;
      return says_more ? static_cast<float>(std::min<double>(declared, greatest))
                       : std::nextafter(kLargestValue, 0.0F);
    };
    lowest[v] = -limit(-limits.lowest);
    highest[v] = limit(limits.highest);
  }
  return at::logical_or(values.lt(lowest), values.gt(highest));
}

}  // namespace

struct Dataset::Impl {
  DatasetOptions options;
  std::vector<FieldFile> files;
  std::vector<std::string> units;
  std::vector<int64_t> times;
  std::vector<int64_t> first_times;  // position in `times` of each file's first
  std::vector<std::string> warnings;
  std::mutex mutex;
  BlockCache cache;

  explicit Impl(DatasetOptions given);
  int64_t points() const;
  int64_t bytes_of(int64_t times, const at::Tensor& rows) const;
  void check_units(const FieldFile& file) const;
  void join_times();
  void round_times();
  void warn_of_layout();
  std::pair<const FieldFile&, int64_t> locate(int64_t time_index) const;
  std::string time_text(int64_t time_index) const;
  at::Tensor read_times(const FieldFile& file, int64_t first, int64_t count, const at::Tensor& rows,
                        std::vector<std::string>& errors) const;
  Block load(const FieldFile& file, int64_t first, int64_t count, const at::Tensor& rows) const;
  void check_possible(const at::Tensor& values, int64_t time_index) const;
  std::pair<at::Tensor, at::Tensor> field_of(const Block& block, int64_t within,
                                             const at::Tensor& rows, int64_t time_index) const;
  std::pair<at::Tensor, at::Tensor> fields(int64_t time_index, const at::Tensor& rows);
  void check_present(const at::Tensor& missing, int64_t time_index) const;
  at::Tensor read(int64_t time_index, const at::Tensor& rows);
};

Dataset::Impl::Impl(DatasetOptions given) : options(std::move(given)), cache(options.cache_bytes) {
  check_dataset_options(options);
  files = open_files(options);
  for (const FieldFile& file : files) check_same_grid(files.front(), file);
  join_times();
  for (std::size_t v = 0; v < options.variables.size(); ++v) {
    units.push_back(files.front().units(static_cast<int64_t>(v)));
  }
  for (const FieldFile& file : files) check_units(file);
  for (const std::string& warning : files.front().warnings()) warnings.push_back(warning);
  warn_of_layout();
}

void Dataset::Impl::check_units(const FieldFile& file) const {
  for (std::size_t v = 0; v < units.size(); ++v) {
    const std::string own = file.units(static_cast<int64_t>(v));
    if (same_units(own, units[v])) continue;
    throw DataError(join(file.path(), ": variable '", options.variables[v], "' is in '", own,
                         "', in ", files.front().path(), " in '", units[v], "'"));
  }
}

int64_t Dataset::Impl::points() const {
  return static_cast<int64_t>(files.front().latitudes().size() * files.front().longitudes().size());
}

int64_t Dataset::Impl::bytes_of(int64_t count, const at::Tensor& rows) const {
  return static_cast<int64_t>(sizeof(float)) * count * (rows.defined() ? rows.numel() : points()) *
         static_cast<int64_t>(options.variables.size());
}

void Dataset::Impl::join_times() {
  for (const FieldFile& file : files) {
    first_times.push_back(static_cast<int64_t>(times.size()));
    times.insert(times.end(), file.times().begin(), file.times().end());
  }
  round_times();
  for (std::size_t i = 1; i < times.size(); ++i) {
    if (times[i] > times[i - 1]) continue;
    const auto index = static_cast<int64_t>(i);
    throw DataError(join(locate(index).first.path(), ": times do not increase: ", time_text(index),
                         " after ", time_text(index - 1)));
  }
}

void Dataset::Impl::round_times() {
  const RoundedTimes done = round_to_steps(times);
  const Calendar calendar = files.front().calendar();
  if (done.rounded > 0) {
    warnings.push_back(join(files.front().path(), ": ", done.rounded, " of ", times.size(),
                            " times lay off whole steps of ", isobar::step_text(times), ", by ",
                            done.furthest, " s at most, and were rounded to these"));
  }
  if (!done.left.empty()) {
    warnings.push_back(join(files.front().path(), ": ", done.left.size(), " of ", times.size(),
                            " times lie off whole steps of ", isobar::step_text(times),
                            " by more than ", done.tolerance, " s, the first ",
                            format_time(done.left.front(), calendar), ", and stay as they are"));
  }
}

/// Samples come in any order, so each of their times costs the decoding of its whole block.
void Dataset::Impl::warn_of_layout() {
  const int64_t all = bytes_of(static_cast<int64_t>(times.size()), {});
  if (all <= options.cache_bytes) return;
  for (const FieldFile& file : files) {
    if (file.block_times() <= kManyBlockTimes) continue;
    warnings.push_back(join(
        file.path(), ": a chunk holds ", file.block_times(),
        " times, all of which are decoded to "
        "read one, and data.cache_bytes (",
        format_bytes(options.cache_bytes), ") is too small to keep the data (", format_bytes(all),
        "); allow more, or store each time by itself: ", file.rewriting_command()));
    return;
  }
}

/// The file that holds a time, and the time's position in it.
std::pair<const FieldFile&, int64_t> Dataset::Impl::locate(int64_t time_index) const {
  const auto next = std::upper_bound(first_times.begin(), first_times.end(), time_index);
  const auto file = next - first_times.begin() - 1;
  return {files[file], time_index - first_times[file]};
}

std::string Dataset::Impl::time_text(int64_t time_index) const {
  return format_time(times[time_index], files.front().calendar());
}

/// What the file has of `count` times from its position `first` on. Of a damaged file those times
/// that cannot be read are missing, and `errors` says why.
at::Tensor Dataset::Impl::read_times(const FieldFile& file, int64_t first, int64_t count,
                                     const at::Tensor& rows,
                                     std::vector<std::string>& errors) const {
  errors.assign(count, {});
  try {
    return file.read(first, count, rows);
  } catch (const DataError&) {
    // One of the times, or all.
  }
  const auto position = &file - files.data();
  at::Tensor values = at::full({count, rows.defined() ? rows.numel() : points(), std::ssize(units)},
                               std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < count; ++i) {
    try {
      values[i].copy_(file.read(first + i, 1, rows)[0]);
    } catch (const DataError& error) {
      errors[i] = join(error.what(), ", at ", time_text(first_times[position] + first + i));
    }
  }
  return values;
}

Block Dataset::Impl::load(const FieldFile& file, int64_t first, int64_t count,
                          const at::Tensor& rows) const {
  Block block;
  block.impossible.assign(count, 0);
  block.values = read_times(file, first, count, rows, block.errors);
  if (all_usual(block.values)) {
    block.missing = at::zeros({count, block.values.size(2)}, at::kBool);
    return block;
  }
  block.missing = block.values.isnan().any(1);
  const at::Tensor impossible = outside(block.values, file).flatten(1).any(1);
  std::copy_n(impossible.const_data_ptr<bool>(), count, block.impossible.begin());
  return block;
}

/// Values of one time, [points, variables].
void Dataset::Impl::check_possible(const at::Tensor& values, int64_t time_index) const {
  const FieldFile& file = locate(time_index).first;
  const at::Tensor odd = outside(values, file);
  if (!odd.any().item<bool>()) return;
  const at::Tensor where = odd.nonzero()[0];
  const auto point = where[0].item<int64_t>(), variable = where[1].item<int64_t>();
  const auto value = values[point][variable].item<float>();
  const std::string& name = options.variables[variable];
  throw DataError(fmt::format(
      "{}: variable '{}' is {} at {}, {}", file.path(), name, value, time_text(time_index),
      std::isinf(value)
          ? std::string("which is not finite; correct the file, or leave that time out")
          : fmt::format("which few variables of the weather are; if that stands for a missing "
                        "value, say so in the file: ncatted -a missing_value,{},o,f,{} FILE; if it "
                        "is one of its values, declare a {} that covers it",
                        name, value, value < 0 ? "valid_min" : "valid_max")));
}

/// Values and missing flags at the position `within` a block, of `rows` among its points or, where
/// these are undefined, of all; a copy. Throws for what is amiss with that time.
std::pair<at::Tensor, at::Tensor> Dataset::Impl::field_of(const Block& block, int64_t within,
                                                          const at::Tensor& rows,
                                                          int64_t time_index) const {
  if (!block.errors[within].empty()) throw DataError(block.errors[within]);
  const at::Tensor all = block.values[within];
  const at::Tensor values = rows.defined() ? all.index_select(0, rows) : all.clone();
  if (block.impossible[within] != 0) check_possible(values, time_index);
  return {values, rows.defined() ? values.isnan().any(0) : block.missing[within]};
}

/// Values [points, variables] and missing flags [variables] of a time. Two locks, in this order:
/// the cache's, then, while a block is read, HDF5's, with which nobody asks for the first.
std::pair<at::Tensor, at::Tensor> Dataset::Impl::fields(int64_t time_index,
                                                        const at::Tensor& rows) {
  const auto [file, position] = locate(time_index);
  const auto file_times = static_cast<int64_t>(file.times().size());
  const int64_t block = file.block_times();
  std::unique_lock lock(mutex);
  KeptBlocks* kept =
      cache.blocks_of(rows, {.all_bytes = bytes_of(static_cast<int64_t>(times.size()), rows),
                             .block_bytes = bytes_of(block, rows),
                             .block_times = block});
  if (!kept) {
    lock.unlock();
    return field_of(load(file, position, 1, rows), 0, {}, time_index);
  }
  const int64_t first = position - position % block;
  const Block& found = kept->get(time_index - position + first, [&, &file = file] {
    return load(file, first, std::min(block, file_times - first), kept->rows());
  });
  const bool fewer = rows.defined() && !kept->rows().defined();
  return field_of(found, position - first, fewer ? rows : at::Tensor(), time_index);
}

void Dataset::Impl::check_present(const at::Tensor& missing, int64_t time_index) const {
  if (options.allow_missing || !missing.any().item<bool>()) return;
  const int64_t variable = missing.nonzero()[0].item<int64_t>();
  const auto [file, position] = locate(time_index);
  throw DataError(join(file.path(), ": variable '", options.variables[variable],
                       "' has missing values at ", time_text(time_index),
                       "; data.allow_missing: true reads on"));
}

at::Tensor Dataset::Impl::read(int64_t time_index, const at::Tensor& rows) {
  const auto count = static_cast<int64_t>(times.size());
  ISOBAR_CHECK(time_index >= 0 && time_index < count, "Dataset: time ", time_index, " of ", count);
  const auto [values, missing] = fields(time_index, rows);
  check_present(missing, time_index);
  return values;
}

Dataset::Dataset(DatasetOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;

const std::vector<int64_t>& Dataset::times() const noexcept { return impl_->times; }
Calendar Dataset::calendar() const noexcept { return impl_->files.front().calendar(); }
int64_t Dataset::usual_step() const { return isobar::usual_step(impl_->times); }
std::string Dataset::step_text() const { return isobar::step_text(impl_->times); }
const std::vector<std::string>& Dataset::warnings() const noexcept { return impl_->warnings; }
const std::vector<std::string>& Dataset::variables() const noexcept {
  return impl_->options.variables;
}
const std::vector<std::string>& Dataset::units() const noexcept { return impl_->units; }
const std::vector<double>& Dataset::latitudes() const noexcept {
  return impl_->files.front().latitudes();
}
const std::vector<double>& Dataset::longitudes() const noexcept {
  return impl_->files.front().longitudes();
}

at::Tensor Dataset::point_latitudes() const {
  return at::tensor(latitudes(), at::kDouble)
      .repeat_interleave(static_cast<int64_t>(longitudes().size()));
}

at::Tensor Dataset::point_longitudes() const {
  return at::tensor(longitudes(), at::kDouble).repeat({static_cast<int64_t>(latitudes().size())});
}

std::optional<int64_t> Dataset::find(int64_t time) const {
  const auto found = std::lower_bound(times().begin(), times().end(), time);
  if (found == times().end() || *found != time) return std::nullopt;
  return found - times().begin();
}

at::Tensor Dataset::read(int64_t time_index) const { return impl_->read(time_index, {}); }

at::Tensor Dataset::read(int64_t time_index, const at::Tensor& rows) const {
  check_rows("Dataset", rows, impl_->points());
  return impl_->read(time_index, rows);
}

}  // namespace isobar
