// SPDX-License-Identifier: Apache-2.0
// Where Config::get() is written, once for each type that a value can have: instantiated here, so
// that the public header needs neither tree nor YAML. On one thread.
//
// A text counts as a number or a truth only if all of it is one, whatever the locale, and is not in
// quotes: half a value, or a string that looks like a number, would be another experiment than the
// one that was meant. A default is spelt as a file would spell it, so that the effective
// configuration, read back, gives the same values.
#include <isobar/core/config.hpp>

#include "core/config_tree.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace isobar::detail {
namespace {

using Kind = ConfigNode::Kind;

template <typename T>
struct Shape {
  static constexpr bool kIsList = false, kIsMap = false;
};

template <typename T>
struct Shape<std::vector<T>> {
  static constexpr bool kIsList = true, kIsMap = false;
};

template <typename T>
struct Shape<std::map<std::string, T>> {
  static constexpr bool kIsList = false, kIsMap = true;
};

template <typename T>
std::string plural_name() {
  if constexpr (std::is_same_v<T, bool>) return "true or false values";
  if constexpr (std::is_integral_v<T>) return "integers";
  if constexpr (std::is_same_v<T, double>) return "numbers";
  return "strings";
}

template <typename T>
std::optional<T> parse_number(const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) return std::nullopt;
  }
  return value;
}

/// The spellings that YAML 1.1 and 1.2 readers agree on or that people write.
std::optional<bool> parse_bool(const std::string& text) {
  static constexpr std::array<const char*, 9> kTrue{"true", "True", "TRUE", "yes", "Yes",
                                                    "YES",  "on",   "On",   "ON"};
  static constexpr std::array<const char*, 9> kFalse{"false", "False", "FALSE", "no", "No",
                                                     "NO",    "off",   "Off",   "OFF"};
  for (const char* spelling : kTrue) {
    if (text == spelling) return true;
  }
  for (const char* spelling : kFalse) {
    if (text == spelling) return false;
  }
  return std::nullopt;
}

/// Text that reads back as no value, unless it is quoted.
bool needs_quotes(const std::string& text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

template <typename T>
std::optional<T> read_scalar(const ConfigNode& node) {
  if (node.kind != Kind::scalar) return std::nullopt;
  if constexpr (std::is_same_v<T, std::string>) return node.text;
  if (node.quoted) return std::nullopt;
  if constexpr (std::is_same_v<T, bool>) return parse_bool(node.text);
  if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
    return parse_number<T>(node.text);
  }
  return std::nullopt;
}

template <typename T>
std::optional<T> read_list(const ConfigNode& node) {
  if (node.kind != Kind::list) return std::nullopt;
  T values;
  for (const auto& item : node.children) {
    auto value = read_scalar<typename T::value_type>(*item);
    if (!value) return std::nullopt;
    values.push_back(std::move(*value));
  }
  return values;
}

template <typename T>
std::optional<T> read_map(const ConfigNode& node) {
  if (node.kind != Kind::section) return std::nullopt;
  T values;
  for (const auto& entry : node.children) {
    auto value = read_scalar<typename T::mapped_type>(*entry);
    if (!value) return std::nullopt;
    entry->known = true;
    values.emplace(entry->key, std::move(*value));
  }
  return values;
}

template <typename T>
std::string type_name() {
  if constexpr (Shape<T>::kIsList) {
    return "a list of " + plural_name<typename T::value_type>();
  } else if constexpr (Shape<T>::kIsMap) {
    return "a section of " + plural_name<typename T::mapped_type>();
  } else if constexpr (std::is_same_v<T, bool>) {
    return "true or false";
  } else if constexpr (std::is_same_v<T, int>) {
    return "an integer of 32 bits";
  } else if constexpr (std::is_integral_v<T>) {
    return "an integer";
  } else if constexpr (std::is_same_v<T, double>) {
    return "a finite number";
  } else {
    return "a string";
  }
}

template <typename T>
std::optional<T> read_value(const ConfigNode& node) {
  if constexpr (Shape<T>::kIsList) {
    return read_list<T>(node);
  } else if constexpr (Shape<T>::kIsMap) {
    return read_map<T>(node);
  } else {
    return read_scalar<T>(node);
  }
}

template <typename T>
ConfigNode make_node(const T& value) {
  ConfigNode node;
  node.is_default = true;
  if constexpr (Shape<T>::kIsList) {
    node.kind = Kind::list;
    for (const typename T::value_type& item : value) {
      node.children.push_back(std::make_unique<ConfigNode>(make_node(item)));
    }
  } else if constexpr (Shape<T>::kIsMap) {
    node.kind = Kind::section;
    for (const auto& [key, item] : value) {
      ConfigNode& entry = node.entry(key);
      entry.set_value(make_node(item));
      entry.known = true;
    }
  } else {
    node.kind = Kind::scalar;
    node.text = fmt::format("{}", value);
    if constexpr (std::is_same_v<T, std::string>) node.quoted = needs_quotes(value);
  }
  return node;
}

template <typename T>
T checked_value(const ConfigDocument& document, const ConfigNode& node) {
  if (auto value = read_value<T>(node)) return std::move(*value);
  throw UsageError(fmt::format("{}: '{}' must be {}, got {}", origin_of(document, node), node.path,
                               type_name<T>(), describe(node)));
}

/// A misspelt key is why a required one is missing, more often than not.
std::string misspelt(const ConfigNode& section, const std::string& key) {
  std::vector<std::string> unread;
  for (const auto& entry : section.children) {
    if (!entry->known && entry->key != key) unread.push_back(entry->key);
  }
  const auto near = nearest(key, unread);
  return near ? fmt::format("; is it what '{}' was meant to be?", *near) : "";
}

[[noreturn]] void fail_missing(const ConfigDocument& document, const ConfigNode& section,
                               const std::string& key, const std::string& wanted) {
  const ConfigNode* empty = section.find(key);
  if (empty != nullptr && !empty->is_default && (empty->line > 0 || !empty->override_key.empty())) {
    throw UsageError(fmt::format("{}: '{}' has no value; it must be {}",
                                 origin_of(document, *empty), empty->path, wanted));
  }
  const std::string in = section.path.empty() ? "" : fmt::format(" in section '{}'", section.path);
  throw UsageError(fmt::format("{}: required key '{}' is missing{}{}", origin_of(document, section),
                               key, in, misspelt(section, key)));
}

}  // namespace

template <typename T>
T ConfigAccess<T>::required(const Config& section, const std::string& key) {
  ConfigNode& parent = *section.section_;
  const ConfigNode* node = parent.find(key);
  if (node == nullptr || !is_given(*node))
    fail_missing(*section.document_, parent, key, type_name<T>());
  parent.entry(key).known = true;
  return checked_value<T>(*section.document_, *node);
}

template <typename T>
T ConfigAccess<T>::optional(const Config& section, const std::string& key, const T& fallback) {
  ConfigNode& node = section.section_->entry(key);
  node.known = true;
  if (is_given(node)) return checked_value<T>(*section.document_, node);
  node.set_value(make_node<T>(fallback));
  return fallback;
}

template struct ConfigAccess<bool>;
template struct ConfigAccess<int>;
template struct ConfigAccess<std::int64_t>;
template struct ConfigAccess<double>;
template struct ConfigAccess<std::string>;
template struct ConfigAccess<std::vector<bool>>;
template struct ConfigAccess<std::vector<int>>;
template struct ConfigAccess<std::vector<std::int64_t>>;
template struct ConfigAccess<std::vector<double>>;
template struct ConfigAccess<std::vector<std::string>>;
template struct ConfigAccess<std::map<std::string, bool>>;
template struct ConfigAccess<std::map<std::string, int>>;
template struct ConfigAccess<std::map<std::string, std::int64_t>>;
template struct ConfigAccess<std::map<std::string, double>>;
template struct ConfigAccess<std::map<std::string, std::string>>;

}  // namespace isobar::detail
