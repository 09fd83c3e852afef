// SPDX-License-Identifier: Apache-2.0
// Called for the profile of a run. Above, a rank's bar is the loop: its parts, one after the other.
// Below, its buckets: those that were under way at the same time lie in lanes of their own. What of
// a bucket is exposed is when the loop waited for any collective, since a bucket that stands behind
// another hides behind nothing either; so the two bars of a rank always agree.
#include "report/chart.hpp"
#include "report/step_parts.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace isobar {
namespace {

using nlohmann::json;

/// TimelineBars of more would be too thin to be told apart.
constexpr std::size_t kMostRanks = 16;

constexpr const char* kExposed = "exposed_comm";
constexpr const char* kHiddenBucket = "bucket, hidden";
constexpr const char* kExposedBucket = "bucket, exposed";

struct TimelineSpan {
  std::string what;
  double begin_s = 0;
  double end_s = 0;
};

struct TimelineBucket {
  json number;
  double bytes = 0;
  double begin_s = 0;
  double end_s = 0;
};

struct RankSpans {
  int rank = 0;
  double step_s = 0;
  std::vector<TimelineSpan> parts;
  std::vector<TimelineBucket> buckets;

  /// Of the step, what it did not wait for others.
  double own_s() const {
    double own_s = step_s;
    for (const auto& span : parts) own_s -= span.what == kExposed ? span.end_s - span.begin_s : 0;
    return own_s;
  }
};

RankSpans spans_of_rank(const json& rank) {
  RankSpans spans{.rank = rank.at("rank"), .step_s = rank.at("step_s"), .parts = {}, .buckets = {}};
  for (const auto& span : rank.at("parts")) {
    spans.parts.push_back({span.at("part"), span.at("begin_s"), span.at("end_s")});
  }
  for (const auto& bucket : rank.at("buckets")) {
    spans.buckets.push_back({bucket.at("bucket"), bucket.at("bytes").get<double>(),
                             bucket.at("begin_s").get<double>(), bucket.at("end_s").get<double>()});
  }
  std::stable_sort(spans.buckets.begin(), spans.buckets.end(),
                   [](const auto& a, const auto& b) { return a.begin_s < b.begin_s; });
  return spans;
}

/// Of many the one with most of its own to do, the one with least, and of the others evenly.
std::vector<RankSpans> shown_of(std::vector<RankSpans> all) {
  if (all.size() <= kMostRanks) return all;
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.own_s() > b.own_s(); });
  std::vector<RankSpans> shown;
  for (std::size_t i = 0; i < kMostRanks; ++i) {
    shown.push_back(all[i * (all.size() - 1) / (kMostRanks - 1)]);
  }
  std::sort(shown.begin(), shown.end(),
            [](const auto& a, const auto& b) { return a.rank < b.rank; });
  return shown;
}

/// What of a bucket was exposed and what was hidden, in order.
std::vector<TimelineSpan> pieces_of(const TimelineBucket& bucket,
                                    const std::vector<TimelineSpan>& parts) {
  std::vector<TimelineSpan> pieces;
  double from_s = bucket.begin_s;
  const auto add = [&](const char* what, double end_s) {
    if (end_s > from_s) pieces.push_back({what, from_s, end_s});
    from_s = std::max(from_s, end_s);
  };
  for (const auto& part : parts) {
    if (part.what != kExposed || part.end_s <= from_s || part.begin_s >= bucket.end_s) continue;
    add(kHiddenBucket, part.begin_s);
    add(kExposedBucket, std::min(part.end_s, bucket.end_s));
  }
  add(kHiddenBucket, bucket.end_s);
  return pieces;
}

/// By bucket, the first lane that is free when it begins; and how many there are.
std::pair<std::vector<std::size_t>, std::size_t> lanes_of(
    const std::vector<TimelineBucket>& buckets) {
  std::vector<double> free_s;
  std::vector<std::size_t> lanes;
  for (const auto& bucket : buckets) {
    const auto lane = std::find_if(free_s.begin(), free_s.end(),
                                   [&](double end_s) { return end_s <= bucket.begin_s; });
    lanes.push_back(lane - free_s.begin());
    if (lane == free_s.end()) free_s.push_back(0);
    free_s[lanes.back()] = bucket.end_s;
  }
  return {lanes, free_s.size()};
}

/// The bars of one name.
struct TimelineBars {
  ChartSeries series;
  std::vector<double> begins = {};
  std::vector<double> widths = {};
  std::vector<std::string> texts = {};
};

class Timeline {
 public:
  void add(const RankSpans& rank) {
    const auto row = static_cast<double>(rows_++);
    ticks_.push_back(fmt::format("rank {}", rank.rank));
    for (const auto& span : rank.parts) {
      add_bar(span, title_of_part(span.what), row - 0.2, 0.38, rank.rank);
      add_row(rank.rank, title_of_part(span.what), span.begin_s, span.end_s);
    }
    const auto [lanes, lane_count] = lanes_of(rank.buckets);
    for (std::size_t b = 0; b < lanes.size(); ++b) {
      const double width = 0.4 / static_cast<double>(lane_count);
      const double place = row + 0.02 + width * (static_cast<double>(lanes[b]) + 0.5);
      add_bucket(rank, rank.buckets[b], place, 0.9 * width);
    }
  }

  ReportChart chart(const std::string& title, const std::string& note) && {
    std::vector<json> traces;
    for (const auto* part : kParts) add_trace(traces, part);
    add_trace(traces, kHiddenBucket);
    add_trace(traces, kExposedBucket);
    auto y = chart_axis("");
    std::vector<double> places(rows_);
    std::iota(places.begin(), places.end(), 0.0);
    set_ticks(y, places, ticks_);
    y["range"] = {static_cast<double>(rows_) - 0.5, -0.5};
    y["showgrid"] = false;
    y["zeroline"] = false;
    return {.title = title,
            .note = note,
            .figure = figure_text(traces, chart_axis("time since the rank's step began (s)"), y,
                                  {{"barmode", "overlay"}}),
            .table = std::move(table_)};
  }

 private:
  void add_bucket(const RankSpans& rank, const TimelineBucket& bucket, double place, double width) {
    const auto name = fmt::format("bucket {}", bucket.number.dump());
    double exposed_s = 0;
    for (const auto& piece : pieces_of(bucket, rank.parts)) {
      const bool exposed = piece.what == kExposedBucket;
      if (exposed) exposed_s += piece.end_s - piece.begin_s;
      add_bar(piece,
              fmt::format("{} ({}), {}", name, format_bytes(static_cast<int64_t>(bucket.bytes)),
                          exposed ? "exposed" : "hidden"),
              place, width, rank.rank);
    }
    add_row(rank.rank, name, bucket.begin_s, bucket.end_s, bucket.bytes, exposed_s);
  }

  void add_bar(const TimelineSpan& span, const std::string& what, double place, double width,
               int rank) {
    auto& bars = bars_[span.what];
    bars.series.x.push_back(span.end_s - span.begin_s);
    bars.series.y.push_back(place);
    bars.begins.push_back(span.begin_s);
    bars.widths.push_back(width);
    bars.texts.push_back(plot_text(
        fmt::format("rank {}, {}: {:.6f} to {:.6f} s", rank, what, span.begin_s, span.end_s)));
  }

  void add_row(int rank, const std::string& what, double begin_s, double end_s,
               ReportCell bytes = {}, ReportCell exposed_s = {}) {
    table_.rows.push_back(
        {static_cast<double>(rank), what, begin_s, end_s, std::move(bytes), std::move(exposed_s)});
  }

  void add_trace(std::vector<json>& traces, const char* name) {
    const auto found = bars_.find(name);
    if (found == bars_.end()) return;
    auto& bars = found->second;
    bars.series.name = title_of_part(name);
    bars.series.colour = colour_of(name);
    auto trace = bar_trace(bars.series);
    trace.update({{"orientation", "h"},
                  {"base", bars.begins},
                  {"width", bars.widths},
                  {"hoverinfo", "text"},
                  {"hovertext", bars.texts}});
    traces.push_back(std::move(trace));
  }

  /// A hidden bucket has that of a part that training runs do not have, an exposed one that of the
  /// waits for it.
  static std::size_t colour_of(const std::string& name) {
    const std::string part = name == kHiddenBucket    ? "zero_grad"
                             : name == kExposedBucket ? kExposed
                                                      : name;
    return std::find(kParts.begin(), kParts.end(), part) - kParts.begin();
  }

  std::map<std::string, TimelineBars> bars_;  ///< by the name of a part, or of a bucket's piece
  std::vector<std::string> ticks_;
  std::size_t rows_ = 0;
  ReportTable table_{
      .name = "step-timeline",
      .title = "Timeline of a step",
      .heading = {"rank", "what", "begin (s)", "end (s)", "bytes", "of it exposed (s)"}};
};

std::string note_of(const json& timeline, const std::vector<RankSpans>& shown, std::size_t ranks) {
  auto note = fmt::format(
      "Step {}, of median length among the last ones. Each rank's time runs from where its own "
      "step "
      "began. Above, what its loop did; below, its buckets, from their start until the rank first "
      "saw that they had ended, which may be somewhat later than they did. Exposed is what the "
      "loop waited for.",
      timeline.value("step", 0));
  if (shown.size() < ranks) {
    const auto by_own = [](const auto& a, const auto& b) { return a.own_s() < b.own_s(); };
    const auto [least, most] = std::minmax_element(shown.begin(), shown.end(), by_own);
    note += fmt::format(
        " {} of {} ranks are shown: the slowest (rank {}), the fastest (rank {}) and of the others "
        "evenly, by a step's time without exposed communication.",
        shown.size(), ranks, most->rank, least->rank);
  }
  return note;
}

}  // namespace

void add_timeline(ReportSection& section, const json& profile) {
  const auto timeline = profile.value("timeline", json::object());
  const auto ranks = timeline.value("ranks", json::array());
  if (ranks.empty()) return;
  try {
    std::vector<RankSpans> all;
    for (const auto& rank : ranks) all.push_back(spans_of_rank(rank));
    const auto shown = shown_of(std::move(all));
    Timeline rows;
    for (const auto& rank : shown) rows.add(rank);
    const auto all_ranks = std::max(ranks.size(), profile.value("ranks", json::array()).size());
    section.charts.push_back(
        std::move(rows).chart("Timeline of a step", note_of(timeline, shown, all_ranks)));
  } catch (const json::exception& error) {
    throw DataError(detail::join("report: the timeline of profile.json is none of isobar train: ",
                                 error.what()));
  }
}

}  // namespace isobar
