// SPDX-License-Identifier: Apache-2.0
#include "cluster/shell_text.hpp"

#include <isobar/core/text.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace isobar {
namespace {

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// Nothing in it has a meaning to the shell, in any place of a word.
bool is_plain(std::string_view text) {
  constexpr std::string_view kPlain = "_-./:,+@%^=";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return is_letter_or_digit(c) || kPlain.find(c) != std::string_view::npos;
  });
}

/// Whether the dollar at `at` begins $NAME or ${NAME}.
bool begins_variable(const std::string& text, std::size_t at) {
  const bool braced = at + 1 < text.size() && text[at + 1] == '{';
  const auto begin = at + (braced ? 2 : 1);
  auto end = begin;
  while (end < text.size() && (is_letter_or_digit(text[end]) || text[end] == '_')) ++end;
  const bool named = end > begin && !(text[begin] >= '0' && text[begin] <= '9');
  return named && (!braced || (end < text.size() && text[end] == '}'));
}

}  // namespace

std::string quoted(const std::string& word) {
  if (is_plain(word)) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string quoted(const std::vector<std::string>& words) {
  std::vector<std::string> all;
  for (const auto& word : words) all.push_back(quoted(word));
  return join_words(all, " ");
}

std::string quoted_with_variables(const std::string& text) {
  if (is_plain(text)) return text;
  std::string out = "\"";
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool plain_dollar = text[at] == '$' && !begins_variable(text, at);
    if (plain_dollar || text[at] == '"' || text[at] == '\\' || text[at] == '`') out += '\\';
    out += text[at];
  }
  return out + "\"";
}

bool is_one_line(const std::string& text) {
  return std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

}  // namespace isobar
