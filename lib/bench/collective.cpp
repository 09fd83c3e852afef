// SPDX-License-Identifier: Apache-2.0
#include <isobar/bench/collective.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <utility>

namespace isobar::bench {
namespace {

constexpr std::array<std::pair<std::string_view, Collective>, 7> kNames{
    {{"allreduce", Collective::allreduce},
     {"reduce_scatter", Collective::reduce_scatter},
     {"all_gather", Collective::all_gather},
     {"all_to_all", Collective::all_to_all},
     {"broadcast", Collective::broadcast},
     {"barrier", Collective::barrier},
     {"send_receive", Collective::send_receive}}};

int64_t parse_size(std::string_view text) {
  const auto bytes = parse_bytes(text);
  ISOBAR_CHECK(bytes && *bytes > 0, "'", text, "' is no size; write 64KiB or 4MiB");
  return *bytes;
}

/// The factor after the last 'x' of "64KiB..64MiBx4", which is taken off; 2 where there is none.
int64_t take_factor(std::string_view& range) {
  const auto mark = range.rfind('x');
  if (mark == std::string_view::npos) return 2;
  const auto text = range.substr(mark + 1);
  int64_t factor = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), factor);
  ISOBAR_CHECK(error == std::errc() && rest == text.data() + text.size() && factor > 1, "'", range,
               "' has the factor '", text, "', wanted a number above 1");
  range = range.substr(0, mark);
  return factor;
}

void append_part(std::vector<int64_t>& sizes, std::string_view part) {
  const auto dots = part.find("..");
  if (dots == std::string_view::npos) {
    sizes.push_back(parse_size(part));
    return;
  }
  const auto factor = take_factor(part);
  const auto first = parse_size(part.substr(0, dots));
  const auto last = parse_size(part.substr(dots + 2));
  ISOBAR_CHECK(first <= last, "the range '", part, "' ends before it begins");
  for (auto size = first;; size *= factor) {
    sizes.push_back(size);
    if (size > last / factor) return;
  }
}

}  // namespace

std::string_view to_string(Collective op) noexcept {
  return kNames[static_cast<std::size_t>(op)].first;
}

Collective parse_collective(std::string_view name) {
  std::vector<std::string> known;
  for (const auto& [text, op] : kNames) {
    if (text == name) return op;
    known.emplace_back(text);
  }
  throw UsageError(detail::join("no collective '", name, "'; ", did_you_mean(name, known)));
}

double busbw_factor(Collective op, int ranks) noexcept {
  const double n = ranks;
  switch (op) {
    case Collective::allreduce:
      return 2 * (n - 1) / n;
    case Collective::reduce_scatter:
    case Collective::all_gather:
    case Collective::all_to_all:
      return (n - 1) / n;
    case Collective::broadcast:
    case Collective::send_receive:
      return ranks > 1 ? 1 : 0;
    case Collective::barrier:
      return 0;
  }
  return 0;
}

Counts counts_of(Collective op, int64_t bytes, int64_t element_bytes, int ranks) noexcept {
  const auto whole = std::max<int64_t>(bytes / element_bytes, 1);
  const auto part = std::max<int64_t>(whole / ranks, 1);
  switch (op) {
    case Collective::reduce_scatter:
      return {part * ranks, part};
    case Collective::all_gather:
      return {part, part * ranks};
    case Collective::all_to_all:
      return {part * ranks, part * ranks};
    case Collective::barrier:
      return {};
    default:
      return {whole, whole};
  }
}

bool in_place(Collective op) noexcept {
  return op == Collective::allreduce || op == Collective::broadcast;
}

std::vector<int64_t> parse_sizes(std::string_view text) {
  std::vector<int64_t> sizes;
  while (true) {
    const auto comma = text.find(',');
    append_part(sizes, text.substr(0, comma));
    if (comma == std::string_view::npos) return sizes;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace isobar::bench
