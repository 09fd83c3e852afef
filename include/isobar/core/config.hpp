// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace isobar {

namespace detail {

struct ConfigDocument;
struct ConfigNode;
template <typename T>
struct ConfigAccess;

template <typename T>
concept ConfigScalar = std::same_as<T, bool> || std::same_as<T, int> ||
    std::same_as<T, std::int64_t> || std::same_as<T, double> || std::same_as<T, std::string>;

}  // namespace detail

/// What a configuration value can be read as: a scalar, a list of scalars or a
/// section with free keys and scalars of one type.
template <typename T>
concept ConfigValue = detail::ConfigScalar<T> ||
                      (detail::ConfigScalar<typename T::value_type>&&
                           std::same_as<T, std::vector<typename T::value_type>>) ||
                      (detail::ConfigScalar<typename T::mapped_type> &&
                       std::same_as<T, std::map<std::string, typename T::mapped_type>>);

template <typename T>
concept ConfigNumber =
    std::same_as<T, int> || std::same_as<T, std::int64_t> || std::same_as<T, double>;

/// The numbers that a key may have, ends included but for `above` and `below`. Messages say them.
struct Limits {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  double above = -std::numeric_limits<double>::infinity();
  double below = std::numeric_limits<double>::infinity();
};

constexpr Limits at_least(double least) { return {.least = least}; }

/// A section of a YAML configuration, read by type.
///
/// Every key that is asked for is known from then on; finish() rejects those in
/// the file that nobody asked for. A key without a value (`key:` or `key: ~`)
/// counts as absent; where it is required, the error says so. Numbers must be plain (`5`, not
/// `"5"`) and finite; a string is any scalar, in the file's own spelling, so a date is one.
///
/// Copies refer to the same document. Not for use from several threads. All
/// errors are UsageError, one line with file and line, or 'command line' where
/// the value came from an override.
class Config {
 public:
  /// Reads YAML text; `name` stands for the file in messages. Overrides as in
  /// load_config().
  static Config parse(const std::string& text, const std::string& name,
                      const std::vector<std::string>& overrides = {});

  /// The value of a key that must be there.
  template <ConfigValue T>
  T get(const std::string& key) const {
    return detail::ConfigAccess<T>::required(*this, key);
  }

  /// The value of a key, or `fallback`, which then belongs to the effective
  /// configuration.
  template <ConfigValue T>
  T get(const std::string& key, const std::type_identity_t<T>& fallback) const {
    return detail::ConfigAccess<T>::optional(*this, key, fallback);
  }

  /// A number within limits; others are an error that names key, value and limits.
  template <ConfigNumber T>
  T get(const std::string& key, const Limits& limits) const {
    const T value = get<T>(key);
    check(key, static_cast<double>(value), limits);
    return value;
  }
  template <ConfigNumber T>
  T get(const std::string& key, const std::type_identity_t<T>& fallback,
        const Limits& limits) const {
    const T value = get<T>(key, fallback);
    check(key, static_cast<double>(value), limits);
    return value;
  }

  /// A size, with a unit or without ("25MiB", see parse_bytes()).
  std::int64_t get_bytes(const std::string& key) const;
  std::int64_t get_bytes(const std::string& key, std::int64_t fallback) const;
  std::int64_t get_bytes(const std::string& key, std::int64_t fallback, const Limits& limits) const;

  /// A string that is one of `choices`.
  std::string one_of(const std::string& key, const std::vector<std::string>& choices) const;
  std::string one_of(const std::string& key, const std::vector<std::string>& choices,
                     const std::string& fallback) const;

  /// The section under `key`; an empty one where the key is absent.
  Config child(const std::string& key) const;

  /// Whether the key has a value, in the file or on the command line.
  bool has(const std::string& key) const;

  /// The keys that are written, with a value or without, in the file's order, for sections whose
  /// keys are names. To list them is not to ask for them: each is known once it is read.
  std::vector<std::string> keys() const;

  /// Where the key was written, to begin a message: "experiment.yaml:12" or "command line"; the
  /// file alone where it was not.
  std::string origin(const std::string& key) const;

  /// Ends the reading: throws where this section or one below it has a key that
  /// nobody asked for, naming the nearest known one. Called once, on the root.
  void finish() const;

  /// The effective configuration (file, overrides, the defaults asked for) as
  /// sorted lines "section.key=value"; ranks compare these.
  std::vector<std::string> flatten() const;

  /// The effective configuration as YAML.
  std::string yaml() const;

 private:
  template <typename T>
  friend struct detail::ConfigAccess;

  void check(const std::string& key, double value, const Limits& limits) const;

  Config(std::shared_ptr<detail::ConfigDocument> document, detail::ConfigNode* section)
      : document_(std::move(document)), section_(section) {}

  std::shared_ptr<detail::ConfigDocument> document_;
  detail::ConfigNode* section_;
};

namespace detail {

/// Where Config::get() is written; defined for every ConfigValue.
template <typename T>
struct ConfigAccess {
  static T required(const Config& section, const std::string& key);
  static T optional(const Config& section, const std::string& key, const T& fallback);
};

}  // namespace detail

/// Reads a YAML file and sets, in order, overrides "section.key=value" from the
/// command line, whose value is read as YAML.
Config load_config(const std::filesystem::path& path,
                   const std::vector<std::string>& overrides = {});

}  // namespace isobar
