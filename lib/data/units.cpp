// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/units.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <utility>

namespace isobar {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 17> kSpellings = {
    {{"kelvin", "K"},
     {"Kelvin", "K"},
     {"degK", "K"},
     {"celsius", "degC"},
     {"Celsius", "degC"},
     {"degree_C", "degC"},
     {"degree_Celsius", "degC"},
     {"degrees_Celsius", "degC"},
     {"degrees_celsius", "degC"},
     {"percent", "%"},
     {"meter", "m"},
     {"metre", "m"},
     {"meters", "m"},
     {"metres", "m"},
     {"second", "s"},
     {"seconds", "s"},
     {"pascal", "Pa"}}};

std::string usual_spelling(const std::string& name) {
  const auto found = std::find_if(kSpellings.begin(), kSpellings.end(),
                                  [&](const auto& each) { return name == each.first; });
  return found == kSpellings.end() ? name : found->second;
}

/// The exponent that begins at `at`: "2", "-1", "**-1", "^2"; 1 where there is none.
int exponent_at(const std::string& text, std::size_t& at) {
  std::size_t start = at;
  while (start < text.size() && (text[start] == '*' || text[start] == '^')) ++start;
  char* end = nullptr;
  const long exponent = std::strtol(text.c_str() + start, &end, 10);
  const auto stop = static_cast<std::size_t>(end - text.c_str());
  const bool spaced = start < text.size() && std::isspace(static_cast<unsigned char>(text[start]));
  if (stop == start || spaced) return 1;
  at = stop;
  return static_cast<int>(exponent);
}

/// The exponent of each factor. What is no product of names, such as "(0 - 1)", is one factor.
std::map<std::string, int> factors_of(const std::string& text) {
  std::map<std::string, int> factors;
  const auto is_name = [](char c) {
    return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '%';
  };
  int sign = 1;
  for (std::size_t at = 0; at < text.size();) {
    if (is_name(text[at])) {
      const std::size_t first = at;
      while (at < text.size() && is_name(text[at])) ++at;
      const auto name = usual_spelling(text.substr(first, at - first));
      factors[name] += sign * exponent_at(text, at);
      sign = 1;
    } else if (text[at] == '/') {
      sign = -1;
      ++at;
    } else if (text[at] == ' ' || text[at] == '.' || text[at] == '*') {
      ++at;
    } else {
      return {{text, 1}};
    }
  }
  return factors;
}

}  // namespace

bool same_units(const std::string& a, const std::string& b) {
  return a == b || (!a.empty() && !b.empty() && factors_of(a) == factors_of(b));
}

}  // namespace isobar
