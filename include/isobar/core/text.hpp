// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace isobar {

/// Number of single-character insertions, deletions, replacements and swaps of
/// neighbours that turn `a` into `b`, where no part is edited twice (optimal
/// string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate that `word` was probably meant to be, or nothing.
///
/// Near is a candidate within (length of word + 2) / 3 edits, or one that
/// begins with the word or that the word begins with (three characters at
/// least). Of several the one with the fewest edits is taken, the first of
/// equals.
std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string>& candidates);

/// The end of an error message about a name that is not known: "did you mean
/// 'x'?" or, where none is near, "known: a, b, c".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

/// `items` with `separator` between them.
std::string join_words(const std::vector<std::string>& items, std::string_view separator = ", ");

/// Reads a size: "65536", "25MiB", "1.5 GiB", "10 kB". Units are B, KiB, MiB,
/// GiB, TiB (powers of 1024) and kB, MB, GB, TB (powers of 1000); none means
/// bytes. Nothing where it is no such size, is negative or exceeds an int64.
std::optional<std::int64_t> parse_bytes(std::string_view text);

/// A size for people, in the largest binary unit that it reaches: "512 B",
/// "1.5 MiB".
std::string format_bytes(std::int64_t bytes);

/// A duration for people: "0.5 s", "42 s", "9 min 47 s", "3 h 05 min".
std::string format_duration(double seconds);

}  // namespace isobar
