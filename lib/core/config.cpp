// SPDX-License-Identifier: Apache-2.0
// What readers of experiments call, on one thread. The tree is config_tree.cpp's, how values become
// numbers and lists config_value.cpp's.
//
// A key that is asked for is known from then on, and a default that is given goes into the tree. So
// finish() can tell which keys nobody knows, and flatten() and yaml() hold every value that was
// read; ranks compare these, records and checkpoints keep them. A key that were read by another way
// than through here would be refused as misspelt.
#include <isobar/core/config.hpp>

#include "core/config_tree.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

namespace isobar {
namespace {

using detail::ConfigDocument;
using detail::ConfigNode;
using Kind = ConfigNode::Kind;

std::string read_text(const std::filesystem::path& path) {
  const auto fail = [&](const char* cause) {
    throw UsageError(fmt::format("{}: cannot read the configuration: {}", path.string(), cause));
  };
  // A folder can be opened, and fails at the first read.
  if (std::filesystem::is_directory(path)) fail("it is a folder");
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();
  if (text.bad()) fail("reading failed");
  return text.str();
}

std::string describe_limits(const Limits& limits) {
  std::vector<std::string> parts;
  const auto add = [&](const char* words, double end) {
    if (std::isfinite(end)) parts.push_back(fmt::format(fmt::runtime(words), end));
  };
  if (std::isfinite(limits.least) && std::isfinite(limits.most)) {
    parts.push_back(fmt::format("from {} to {}", limits.least, limits.most));
  } else {
    add("{} or more", limits.least);
    add("{} or less", limits.most);
  }
  add("above {}", limits.above);
  add("below {}", limits.below);
  return join_words(parts, " and ");
}

std::int64_t checked_bytes(const ConfigDocument& document, const ConfigNode& node,
                           const std::string& text) {
  if (const auto bytes = parse_bytes(text)) return *bytes;
  throw UsageError(fmt::format("{}: '{}' must be a size such as 25MiB, got '{}'",
                               origin_of(document, node), node.path, text));
}

std::string checked_choice(const ConfigDocument& document, const ConfigNode& node,
                           const std::vector<std::string>& choices, const std::string& text) {
  if (std::find(choices.begin(), choices.end(), text) != choices.end()) return text;
  const auto near = nearest(text, choices);
  throw UsageError(fmt::format("{}: '{}' must be one of {}, got '{}'{}", origin_of(document, node),
                               node.path, join_words(choices), text,
                               near ? fmt::format("; did you mean '{}'?", *near) : ""));
}

}  // namespace

Config Config::parse(const std::string& text, const std::string& name,
                     const std::vector<std::string>& overrides) {
  auto document = std::make_shared<ConfigDocument>();
  document->name = name;
  document->root = detail::parse_tree(text, name);
  for (const std::string& assignment : overrides) apply_override(*document, assignment);
  ConfigNode* root = &document->root;
  return {std::move(document), root};
}

std::int64_t Config::get_bytes(const std::string& key) const {
  const auto text = get<std::string>(key);
  return checked_bytes(*document_, section_->entry(key), text);
}

std::int64_t Config::get_bytes(const std::string& key, std::int64_t fallback) const {
  const auto text = get<std::string>(key, std::to_string(fallback));
  return checked_bytes(*document_, section_->entry(key), text);
}

std::int64_t Config::get_bytes(const std::string& key, std::int64_t fallback,
                               const Limits& limits) const {
  const auto bytes = get_bytes(key, fallback);
  check(key, static_cast<double>(bytes), limits);
  return bytes;
}

void Config::check(const std::string& key, double value, const Limits& limits) const {
  if (value >= limits.least && value <= limits.most && value > limits.above &&
      value < limits.below) {
    return;
  }
  const ConfigNode& node = section_->entry(key);
  throw UsageError(fmt::format("{}: '{}' must be {}, got {}", origin_of(*document_, node),
                               node.path, describe_limits(limits), node.text));
}

std::string Config::one_of(const std::string& key, const std::vector<std::string>& choices) const {
  const auto text = get<std::string>(key);
  return checked_choice(*document_, section_->entry(key), choices, text);
}

std::string Config::one_of(const std::string& key, const std::vector<std::string>& choices,
                           const std::string& fallback) const {
  const auto text = get<std::string>(key, fallback);
  return checked_choice(*document_, section_->entry(key), choices, text);
}

Config Config::child(const std::string& key) const {
  ConfigNode& node = section_->entry(key);
  node.known = true;
  if (node.kind == Kind::none) {
    node.kind = Kind::section;
    node.is_default = true;
  }
  if (node.kind != Kind::section) {
    throw UsageError(fmt::format("{}: '{}' must be a section, got {}", origin_of(*document_, node),
                                 node.path, describe(node)));
  }
  return {document_, &node};
}

bool Config::has(const std::string& key) const {
  ConfigNode& node = section_->entry(key);
  node.known = true;
  return is_given(node);
}

std::vector<std::string> Config::keys() const {
  std::vector<std::string> names;
  for (const auto& entry : section_->children) {
    if (is_written(*entry)) names.push_back(entry->key);
  }
  return names;
}

std::string Config::origin(const std::string& key) const {
  return origin_of(*document_, section_->entry(key));
}

void Config::finish() const { reject_unknown(*document_, *section_); }

std::vector<std::string> Config::flatten() const {
  std::vector<std::string> lines;
  flatten_tree(*section_, lines);
  std::sort(lines.begin(), lines.end());
  return lines;
}

std::string Config::yaml() const { return emit_yaml(*section_) + "\n"; }

Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  return Config::parse(read_text(path), path.string(), overrides);
}

}  // namespace isobar
