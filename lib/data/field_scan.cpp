// SPDX-License-Identifier: Apache-2.0
// Called from share_scan(), which gives each rank a thread for look_through() and puts the parts
// together afterwards.
//
// Times are divided into blocks that do not depend on the number of ranks and that no end of a
// period cuts. A block's moments are joined in the order of its times by the one rank that reads
// it, the blocks' in their order by every rank once it knows all of them: hence the same bits for
// any number of ranks. Until then a rank has zeros for the blocks of others, so that a sum over
// ranks copies exactly.
#include <isobar/data/field_scan.hpp>

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <utility>

#include "field_moments.hpp"
#include "usual_changes.hpp"
#include "value_bins.hpp"

namespace isobar {
namespace {

using detail::join;

constexpr int64_t kBlockFields = 32;
constexpr int64_t kMoments = 5;

/// What is remembered of each field of each variable.
enum Flag : uint8_t { kMissing = 1, kConstant = 2, kUnchanged = 4, kChanged = 8, kAbsent = 16 };

void put(const at::Tensor& to, const std::vector<Moments>& moments) {
  auto* values = to.mutable_data_ptr<double>();
  for (const Moments& m : moments) {
    for (const double value : {m.count, m.mean, m.squares, m.minimum, m.maximum}) *values++ = value;
  }
}

Moments get(const double* values) {
  return {values[0], values[1], values[2], values[3], values[4]};
}

/// Fields by time, as far back as a step.
class Window {
 public:
  Window(const Dataset& dataset, int64_t step_seconds) : dataset_(dataset), step_(step_seconds) {}

  at::Tensor read(int64_t index) {
    const int64_t time = dataset_.times()[index];
    const auto found = fields_.find(time);
    if (found != fields_.end()) return found->second;
    return fields_.emplace(time, dataset_.read(index)).first->second;
  }

  /// The field a step before `time`, or an undefined tensor. One that cannot be read is refused
  /// where it is wanted for itself; outside of all periods it may stay as it is.
  at::Tensor earlier(int64_t time) {
    const auto index = dataset_.find(time - step_);
    if (!index) return {};
    try {
      return read(*index);
    } catch (const DataError&) {
      return {};
    }
  }

  /// Later times than this one need nothing of a step before it, or earlier.
  void leave(int64_t time) { fields_.erase(fields_.begin(), fields_.upper_bound(time - step_)); }

 private:
  const Dataset& dataset_;
  int64_t step_;
  std::map<int64_t, at::Tensor> fields_;
};

}  // namespace

struct FieldScan::Impl {
  /// A run of positions in `indices`.
  struct Block {
    int64_t first = 0, last = 0;
  };

  std::shared_ptr<const Dataset> dataset;
  FieldScanOptions options;
  std::vector<int64_t> indices;  ///< of the data set's times, increasing
  std::vector<Block> blocks;
  at::Tensor moments;  ///< float64 [blocks, values and change, variables, kMoments]
  at::Tensor flags;    ///< uint8 [indices, variables]
  at::Tensor changes;  ///< float64 [indices, variables]: root mean square, 0 where there is none
  ValueBins bins;

  Impl(std::shared_ptr<const Dataset> data, FieldScanOptions given);
  void find_indices();
  void cut_into_blocks();
  int64_t variables() const { return static_cast<int64_t>(dataset->variables().size()); }
  int64_t time_at(int64_t position) const { return dataset->times()[indices[position]]; }
  void read_block(int64_t block, Window& window, const std::function<void()>& read);
  void look_at(int64_t position, const std::vector<Moments>& values);
  void note(int64_t position, int64_t variable, Flag flag) {
    flags.mutable_data_ptr<uint8_t>()[position * variables() + variable] |= flag;
  }
  bool has(int64_t position, int64_t variable, Flag flag) const {
    return (flags.const_data_ptr<uint8_t>()[position * variables() + variable] & flag) != 0;
  }
  /// In `indices`, of a time that was read.
  std::optional<int64_t> position_of(int64_t time) const {
    const auto index = dataset->find(time);
    if (!index) return std::nullopt;
    const auto found = std::lower_bound(indices.begin(), indices.end(), *index);
    if (found == indices.end() || *found != *index) return std::nullopt;
    return found - indices.begin();
  }
  Moments of_block(int64_t block, int64_t kind, int64_t variable) const {
    return get(moments.const_data_ptr<double>() +
               ((block * 2 + kind) * variables() + variable) * kMoments);
  }
  bool lies_within(const Block& block, const Period& period) const;
  ScanStatistics statistics(const Period& period, int64_t variable) const;
  std::string large_changes(int64_t variable) const;
  std::string constant_fields(int64_t variable) const;
  std::string unchanged_fields(int64_t variable) const;
  std::string text_on(const std::vector<int64_t>& positions, int64_t variable,
                      const std::string& what) const;
};

FieldScan::Impl::Impl(std::shared_ptr<const Dataset> data, FieldScanOptions given)
    : dataset(std::move(data)),
      options(std::move(given)),
      bins(static_cast<int64_t>(dataset->variables().size())) {
  ISOBAR_CHECK(options.step_hours > 0, "FieldScan: step_hours must be positive, got ",
               options.step_hours);
  find_indices();
  cut_into_blocks();
  moments = at::zeros({std::ssize(blocks), 2, variables(), kMoments}, at::kDouble);
  flags = at::zeros({std::ssize(indices), variables()}, at::kByte);
  changes = at::zeros({std::ssize(indices), variables()}, at::kDouble);
}

void FieldScan::Impl::find_indices() {
  for (const Period& period : options.periods) {
    const auto within = indices_within(dataset->times(), period);
    indices.insert(indices.end(), within.begin(), within.end());
  }
  for (const int64_t time : options.times) {
    if (const auto index = dataset->find(time)) indices.push_back(*index);
  }
  std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
}

void FieldScan::Impl::cut_into_blocks() {
  std::vector<int64_t> ends;
  for (const Period& period : options.periods) ends.insert(ends.end(), {period.begin, period.end});
  std::sort(ends.begin(), ends.end());
  const auto piece = [&](int64_t position) {
    return std::upper_bound(ends.begin(), ends.end(), time_at(position)) - ends.begin();
  };
  for (int64_t i = 0; i < std::ssize(indices); ++i) {
    const bool full = !blocks.empty() && blocks.back().last - blocks.back().first == kBlockFields;
    if (blocks.empty() || full || piece(i) != piece(i - 1)) blocks.push_back({i, i});
    blocks.back().last = i + 1;
  }
}

void FieldScan::Impl::look_at(int64_t position, const std::vector<Moments>& values) {
  const auto points = static_cast<double>(dataset->point_latitudes().size(0));
  for (int64_t v = 0; v < variables(); ++v) {
    if (values[v].count < points) note(position, v, kMissing);
    if (values[v].count == 0) note(position, v, kAbsent);
    // Zero everywhere is a dry day, or night.
    if (values[v].count > 1 && values[v].minimum == values[v].maximum && values[v].minimum != 0) {
      note(position, v, kConstant);
    }
  }
}

void FieldScan::Impl::read_block(int64_t number, Window& window,
                                 const std::function<void()>& read) {
  std::vector<Moments> all(variables()), change_sums(variables());
  for (int64_t i = blocks[number].first; i < blocks[number].last; ++i) {
    const at::Tensor field = window.read(indices[i]);
    const auto values = moments_of(field);
    look_at(i, values);
    bins.add(field, time_at(i));
    for (int64_t v = 0; v < variables(); ++v) all[v].join(values[v]);
    if (const at::Tensor earlier = window.earlier(time_at(i)); earlier.defined()) {
      const auto change = moments_of_change(field, earlier);
      for (int64_t v = 0; v < variables(); ++v) {
        change_sums[v].join(change[v]);
        changes.mutable_data_ptr<double>()[i * variables() + v] = root_mean_square(change[v]);
        if (change[v].count < 2) continue;
        const bool same = change[v].minimum == 0 && change[v].maximum == 0;
        if (!same) note(i, v, kChanged);
        if (same && values[v].minimum != values[v].maximum) note(i, v, kUnchanged);
      }
    }
    window.leave(time_at(i));
    if (read) read();
  }
  put(moments[number][0], all);
  put(moments[number][1], change_sums);
}

bool FieldScan::Impl::lies_within(const Block& block, const Period& period) const {
  const bool first = period.contains(time_at(block.first));
  ISOBAR_CHECK(first == period.contains(time_at(block.last - 1)), "FieldScan: the period ",
               format_period(period, dataset->calendar()), " is not made of those it was made for");
  return first;
}

ScanStatistics FieldScan::Impl::statistics(const Period& period, int64_t variable) const {
  Moments values, change;
  ScanStatistics result;
  int64_t fields = 0;
  for (int64_t b = 0; b < std::ssize(blocks); ++b) {
    if (!lies_within(blocks[b], period)) continue;
    values.join(of_block(b, 0, variable));
    change.join(of_block(b, 1, variable));
    fields += blocks[b].last - blocks[b].first;
  }
  if (values.count == 0) {
    throw DataError(join("statistics: variable '", dataset->variables()[variable],
                         "' has no value at the ", fields, " times from ",
                         format_period(period, dataset->calendar())));
  }
  result.values = {values.mean, values.deviation(), values.minimum, values.maximum,
                   static_cast<int64_t>(values.count)};
  result.change_stdev = change.deviation();
  result.missing = fields * dataset->point_latitudes().size(0) - result.values.count;
  return result;
}

/// "" where no field is, or nearly all are.
std::string FieldScan::Impl::constant_fields(int64_t variable) const {
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < std::ssize(indices); ++i) {
    if (has(i, variable, kConstant)) positions.push_back(i);
  }
  if (10 * std::ssize(positions) > 9 * std::ssize(indices)) return {};
  return text_on(positions, variable, "the same everywhere");
}

/// "" where no run of them is longer than usual.
std::string FieldScan::Impl::unchanged_fields(int64_t variable) const {
  std::vector<Repeat> repeats(indices.size(), Repeat::unknown);
  for (int64_t i = 0; i < std::ssize(indices); ++i) {
    if (has(i, variable, kChanged)) repeats[i] = Repeat::changed;
    if (has(i, variable, kUnchanged)) repeats[i] = Repeat::unchanged;
  }
  return text_on(unusual_repeats(repeats), variable, "the same as a step before");
}

std::string FieldScan::Impl::text_on(const std::vector<int64_t>& positions, int64_t variable,
                                     const std::string& what) const {
  if (positions.empty()) return {};
  return join("'", dataset->variables()[variable], "' is ", what, " at ", positions.size(), " of ",
              indices.size(), " times, first at ",
              format_time(time_at(positions.front()), dataset->calendar()));
}

/// "" where no field changes far more than others do.
std::string FieldScan::Impl::large_changes(int64_t variable) const {
  std::vector<double> all;
  for (int64_t i = 0; i < std::ssize(indices); ++i) {
    all.push_back(changes.const_data_ptr<double>()[i * variables() + variable]);
  }
  const auto large = large_change(all);
  int64_t count = 0, first = -1;
  double largest = 0;
  for (int64_t i = 0; i < std::ssize(indices); ++i) {
    if (all[i] <= large.from) continue;
    if (count++ == 0) first = i;
    largest = std::max(largest, all[i]);
  }
  if (count == 0) return {};
  return join("'", dataset->variables()[variable], "' changes by up to ", largest,
              " (root mean square) in ", options.step_hours, " h at ", count, " of ",
              indices.size(), " times, first at ", format_time(time_at(first), dataset->calendar()),
              "; 98 % of its changes are below ", large.usual);
}

FieldScan::FieldScan(std::shared_ptr<const Dataset> dataset, FieldScanOptions options)
    : impl_(std::make_unique<Impl>(std::move(dataset), std::move(options))) {}
FieldScan::~FieldScan() = default;
FieldScan::FieldScan(FieldScan&&) noexcept = default;
FieldScan& FieldScan::operator=(FieldScan&&) noexcept = default;

int64_t FieldScan::fields() const noexcept { return std::ssize(impl_->indices); }

void FieldScan::look_through(int rank, int size, const std::function<void()>& read) {
  const int64_t blocks = std::ssize(impl_->blocks);
  Window window(*impl_->dataset, impl_->options.step_hours * kHourSeconds);
  for (int64_t b = blocks * rank / size; b < blocks * (rank + 1) / size; ++b) {
    impl_->read_block(b, window, read);
  }
}

std::vector<at::Tensor> FieldScan::sums() const {
  return {impl_->moments, impl_->flags, impl_->changes, impl_->bins.counts};
}

std::vector<at::Tensor> FieldScan::minima() const {
  return {impl_->bins.first_times, impl_->bins.minima};
}

std::vector<at::Tensor> FieldScan::maxima() const { return {impl_->bins.maxima}; }

std::vector<ScanStatistics> FieldScan::statistics(const Period& period) const {
  std::vector<ScanStatistics> all;
  for (int64_t v = 0; v < impl_->variables(); ++v) all.push_back(impl_->statistics(period, v));
  return all;
}

std::optional<int64_t> FieldScan::first_missing(int64_t variable,
                                                const std::vector<int64_t>& times) const {
  const auto found = std::find_if(times.begin(), times.end(), [&](int64_t time) {
    const auto position = impl_->position_of(time);
    return position && impl_->has(*position, variable, kMissing);
  });
  return found == times.end() ? std::nullopt : std::optional(*found);
}

bool FieldScan::has_value(int64_t variable, const std::vector<int64_t>& times) const {
  return std::any_of(times.begin(), times.end(), [&](int64_t time) {
    const auto position = impl_->position_of(time);
    return position && !impl_->has(*position, variable, kAbsent);
  });
}

bool FieldScan::has_far_values(int64_t variable) const {
  return impl_->bins.far_values(variable).has_value();
}

std::vector<std::string> FieldScan::suspicions() const {
  std::vector<std::string> all;
  for (int64_t v = 0; v < impl_->variables(); ++v) {
    if (const auto far = impl_->bins.far_values(v)) {
      all.push_back(join("'", impl_->dataset->variables()[v], "' has ", text_of(*far),
                         ", first at ", format_time(far->first_time, impl_->dataset->calendar())));
    }
    for (const auto& text :
         {impl_->constant_fields(v), impl_->unchanged_fields(v), impl_->large_changes(v)}) {
      if (!text.empty()) all.push_back(text);
    }
  }
  return all;
}

}  // namespace isobar
