// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace isobar::detail {

/// A value of a configuration: where it came from and what is known about it.
struct ConfigNode {
  enum class Kind { none, scalar, list, section };

  Kind kind = Kind::none;
  std::string key;
  /// Keys from the root, joined by dots; empty for the root.
  std::string path;
  /// A scalar as it is spelt.
  std::string text;
  bool quoted = false;
  /// From 1; 0 where it came from the command line or is a default.
  int line = 0;
  /// On the command line: the key as it was given there.
  std::string override_key;
  /// Nobody wrote it: it is a default that was asked for.
  bool is_default = false;
  /// Somebody asked for it by name.
  bool known = false;
  /// Entries of a section or items of a list, in the file's order. Nodes stay
  /// where they are in memory: Config points to them.
  std::vector<std::unique_ptr<ConfigNode>> children;

  ConfigNode* find(std::string_view name) const;
  /// The entry of this name; a new one, without a value, where there is none.
  ConfigNode& entry(const std::string& name);
  /// Takes over what `value` holds (kind, text, children, whether it is a
  /// default); name and path stay, and go to the entries below.
  void set_value(ConfigNode&& value);
};

struct ConfigDocument {
  std::string name;
  ConfigNode root;
};

/// Reads YAML text into a tree. Throws UsageError with `name` and line.
ConfigNode parse_tree(const std::string& text, const std::string& name);

/// Sets one "section.key=value".
void apply_override(ConfigDocument& document, const std::string& assignment);

/// "experiment.yaml:12" or "command line".
std::string origin_of(const ConfigDocument& document, const ConfigNode& node);

/// What a node holds, for messages: 'many', "a list", ...
std::string describe(const ConfigNode& node);

/// Whether somebody wrote the key, with a value or without.
bool is_written(const ConfigNode& node);

/// Whether somebody wrote a value: in the file or on the command line.
bool is_given(const ConfigNode& node);

/// Appends "section.key=value" for each scalar and list below `node`.
void flatten_tree(const ConfigNode& node, std::vector<std::string>& lines);

std::string emit_yaml(const ConfigNode& node);

/// Throws UsageError for the first entry, in the file's order, that is not known.
void reject_unknown(const ConfigDocument& document, const ConfigNode& section);

}  // namespace isobar::detail
