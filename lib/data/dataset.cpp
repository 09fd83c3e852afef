// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/dataset.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "field_file.hpp"
#include "rows.hpp"

namespace isobar {
namespace {

using detail::FieldFile;
using detail::join;

/// Decoded fields, and whether a value of a variable is missing at a time.
struct Block {
  at::Tensor values;   // [times, points, variables]
  at::Tensor missing;  // bool [times, variables]
};

/// What is kept in memory of some points.
struct Cache {
  at::Tensor rows;                  // undefined for all
  std::map<int64_t, Block> blocks;  // by the position of their first time
};

bool same_rows(const at::Tensor& a, const at::Tensor& b) {
  return a.is_same(b) || (b.defined() && at::equal(a, b));
}

void check_options(const DatasetOptions& options) {
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

void check_same_grid(const FieldFile& first, const FieldFile& other) {
  const auto fail = [&](const std::string& what) {
    throw DataError(join(other.path(), ": has ", what, " than ", first.path()));
  };
  if (other.calendar() != first.calendar()) fail("another calendar");
  if (other.latitudes() != first.latitudes()) fail("other latitudes");
  if (other.longitudes() != first.longitudes()) fail("other longitudes");
}

}  // namespace

struct Dataset::Impl {
  DatasetOptions options;
  std::vector<FieldFile> files;
  std::vector<std::string> units;
  std::vector<int64_t> times;
  std::vector<int64_t> first_times;  // position in `times` of each file's first
  std::mutex mutex;
  std::vector<Cache> caches;
  double cached_bytes = 0;  // of the caches once they are full

  explicit Impl(DatasetOptions given);
  int64_t points() const;
  void join_times();
  std::pair<const FieldFile&, int64_t> locate(int64_t time_index) const;
  Block load(const FieldFile& file, int64_t first, int64_t count, const at::Tensor& rows) const;
  Cache* cache_of(const at::Tensor& rows);
  const Block& cached(Cache& cache, int64_t time_index) const;
  std::pair<at::Tensor, at::Tensor> fields(int64_t time_index, const at::Tensor& rows);
  void check_present(const at::Tensor& missing, int64_t time_index) const;
  at::Tensor read(int64_t time_index, const at::Tensor& rows);
};

Dataset::Impl::Impl(DatasetOptions given) : options(std::move(given)) {
  check_options(options);
  files = open_files(options);
  for (const FieldFile& file : files) check_same_grid(files.front(), file);
  join_times();
  for (std::size_t v = 0; v < options.variables.size(); ++v) {
    units.push_back(files.front().units(static_cast<int64_t>(v)));
  }
}

int64_t Dataset::Impl::points() const {
  return static_cast<int64_t>(files.front().latitudes().size() * files.front().longitudes().size());
}

void Dataset::Impl::join_times() {
  for (const FieldFile& file : files) {
    first_times.push_back(static_cast<int64_t>(times.size()));
    for (const int64_t time : file.times()) {
      if (!times.empty() && time <= times.back()) {
        throw DataError(join(file.path(),
                             ": times do not increase: ", format_time(time, file.calendar()),
                             " after ", format_time(times.back(), file.calendar())));
      }
      times.push_back(time);
    }
  }
}

/// The file that holds a time, and the time's position in it.
std::pair<const FieldFile&, int64_t> Dataset::Impl::locate(int64_t time_index) const {
  const auto next = std::upper_bound(first_times.begin(), first_times.end(), time_index);
  const auto file = next - first_times.begin() - 1;
  return {files[file], time_index - first_times[file]};
}

Block Dataset::Impl::load(const FieldFile& file, int64_t first, int64_t count,
                          const at::Tensor& rows) const {
  Block block;
  block.values = file.read(first, count, rows);
  block.missing = block.values.isnan().any(1);
  return block;
}

/// Where these rows are kept, alone or among all points: a new place if there is room for them,
/// null where there is none.
Cache* Dataset::Impl::cache_of(const at::Tensor& rows) {
  for (Cache& cache : caches) {
    if (!cache.rows.defined() || same_rows(cache.rows, rows)) return &cache;
  }
  const auto count = static_cast<double>(rows.defined() ? rows.numel() : points());
  const double bytes = 4.0 * count * static_cast<double>(times.size() * options.variables.size());
  if (cached_bytes + bytes > static_cast<double>(options.cache_bytes)) return nullptr;
  cached_bytes += bytes;
  return &caches.emplace_back(Cache{rows, {}});
}

const Block& Dataset::Impl::cached(Cache& cache, int64_t time_index) const {
  const auto [file, position] = locate(time_index);
  const int64_t first = position - position % file.block_times();
  const int64_t count =
      std::min(file.block_times(), static_cast<int64_t>(file.times().size()) - first);
  const int64_t key = time_index - position + first;
  auto found = cache.blocks.find(key);
  if (found == cache.blocks.end()) {
    found = cache.blocks.emplace(key, load(file, first, count, cache.rows)).first;
  }
  return found->second;
}

/// Values [points, variables] and missing flags [variables] of a time.
std::pair<at::Tensor, at::Tensor> Dataset::Impl::fields(int64_t time_index,
                                                        const at::Tensor& rows) {
  const auto [file, position] = locate(time_index);
  std::unique_lock lock(mutex);
  Cache* cache = cache_of(rows);
  if (!cache) {
    lock.unlock();
    const Block block = load(file, position, 1, rows);
    return {block.values[0], block.missing[0]};
  }
  const Block& block = cached(*cache, time_index);
  const int64_t within = position % file.block_times();
  if (rows.defined() && !cache->rows.defined()) {
    const at::Tensor values = block.values[within].index_select(0, rows);
    return {values, values.isnan().any(0)};
  }
  return {block.values[within].clone(), block.missing[within]};
}

void Dataset::Impl::check_present(const at::Tensor& missing, int64_t time_index) const {
  if (options.allow_missing || !missing.any().item<bool>()) return;
  const int64_t variable = missing.nonzero()[0].item<int64_t>();
  const auto [file, position] = locate(time_index);
  throw DataError(join(file.path(), ": variable '", options.variables[variable],
                       "' has missing values at ",
                       format_time(times[time_index], file.calendar())));
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
  detail::check_rows("Dataset", rows, impl_->points());
  return impl_->read(time_index, rows);
}

}  // namespace isobar
