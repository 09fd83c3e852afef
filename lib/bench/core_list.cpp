// SPDX-License-Identifier: Apache-2.0
#include "bench/core_list.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <sstream>

namespace isobar::bench {
namespace {

int parse_core(const std::string& word, const std::string& text) {
  int core = -1;
  const auto* const end = word.data() + word.size();
  const auto [stop, problem] = std::from_chars(word.data(), end, core);
  ISOBAR_CHECK(problem == std::errc() && stop == end && core >= 0 && core < (1 << 16),
               "list of cores: '", text, "' holds '", word, "'; write it as 0-3,8");
  return core;
}

}  // namespace

std::vector<int> parse_core_list(const std::string& text) {
  std::vector<int> cores;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const auto dash = part.find('-');
    const int first = parse_core(part.substr(0, dash), text);
    const int last = dash == std::string::npos ? first : parse_core(part.substr(dash + 1), text);
    for (int core = first; core <= last; ++core) cores.push_back(core);
  }
  std::sort(cores.begin(), cores.end());
  cores.erase(std::unique(cores.begin(), cores.end()), cores.end());
  return cores;
}

std::string core_list_text(const std::vector<int>& cores) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < cores.size();) {
    std::size_t last = i;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    parts.push_back(std::to_string(cores[i]) + (last > i ? "-" + std::to_string(cores[last]) : ""));
    i = last + 1;
  }
  return parts.empty() ? "none" : join_words(parts, ",");
}

std::vector<int> common_cores(const std::vector<int>& a, const std::vector<int>& b) {
  std::vector<int> common;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common));
  return common;
}

}  // namespace isobar::bench
