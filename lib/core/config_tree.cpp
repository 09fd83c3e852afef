// SPDX-License-Identifier: Apache-2.0
// A configuration as a tree, read from YAML and changed by the command line, for config.cpp and
// config_value.cpp; on one thread.
//
// Each node knows where it was written, for a message may have to say it long after the file was
// read: the line, or the key on the command line. Nodes stay where they are in memory, since
// Configs point to them while further keys are entered beside them; overrides, which replace what
// is below a node, are applied before there is a Config.
#include "core/config_tree.hpp"

#include <isobar/core/error.hpp>
#include <isobar/core/text.hpp>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <regex>
#include <sstream>
#include <utility>

namespace isobar::detail {
namespace {

using Kind = ConfigNode::Kind;

// An alias may refer to a node that holds it: such a tree has no end.
constexpr int kDeepest = 64;

std::string joined(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

/// Of a text's lines the one of this number, from 1.
std::string line_of(const std::string& text, int number) {
  std::istringstream stream(text);
  std::string line;
  while (number-- > 0 && std::getline(stream, line)) continue;
  return line;
}

class TreeReader {
 public:
  /// `origin` begins every message; lines are named only of a file.
  TreeReader(std::string origin, bool is_file) : origin_(std::move(origin)), is_file_(is_file) {}

  void read(const YAML::Node& yaml, ConfigNode& node, int depth = 0) const {
    if (node.line == 0) node.line = yaml.Mark().line + 1;
    if (depth > kDeepest) fail(node.line, fmt::format("nested deeper than {} levels", kDeepest));
    switch (yaml.Type()) {
      case YAML::NodeType::Scalar:
        return read_scalar(yaml, node);
      case YAML::NodeType::Sequence:
        return read_list(yaml, node, depth);
      case YAML::NodeType::Map:
        return read_section(yaml, node, depth);
      default:
        node.kind = Kind::none;
    }
  }

  /// What is wrong with `text`, which is no YAML. A brace begins a section there: who wrote a text
  /// with one in front, such as "{era5}/2m.nc", cannot tell from the words of YAML's reader.
  [[noreturn]] void refuse_text(const std::string& text, int line, const std::string& what) const {
    static const std::regex brace(R"((^|[:\[,{-]\s*)\{[^}]*(\}[^\s,\]}].*|$))");
    constexpr std::size_t kMost = 500;  // std::regex goes as deep as a line is long
    const auto wrong = line_of(text, std::max(line, 1)).substr(0, kMost);
    const bool has_brace = std::regex_search(wrong, brace);
    fail(line, !has_brace ? what
               : is_file_ ? what + "; a text that begins with { needs quotes: \"{name}/file\""
                          : what +
                                "; a text that begins with { needs quotes, and the shell's "
                                "around them: \"key='{name}/file'\"");
  }

  [[noreturn]] void fail(int line, const std::string& what) const {
    throw UsageError(line > 0 && is_file_ ? fmt::format("{}:{}: {}", origin_, line, what)
                                          : fmt::format("{}: {}", origin_, what));
  }

 private:
  static void read_scalar(const YAML::Node& yaml, ConfigNode& node) {
    node.kind = Kind::scalar;
    node.text = yaml.Scalar();
    node.quoted = yaml.Tag() == "!";
  }

  void read_list(const YAML::Node& yaml, ConfigNode& node, int depth) const {
    node.kind = Kind::list;
    for (const auto& item : yaml) {
      node.children.push_back(std::make_unique<ConfigNode>());
      read(item, *node.children.back(), depth + 1);
    }
  }

  void read_section(const YAML::Node& yaml, ConfigNode& node, int depth) const {
    node.kind = Kind::section;
    for (const auto& pair : yaml) {
      const int line = pair.first.Mark().line + 1;
      if (!pair.first.IsScalar()) fail(line, "a key must be a plain word");
      const std::string& key = pair.first.Scalar();
      if (const ConfigNode* first = node.find(key)) {
        fail(line, fmt::format("'{}' is given twice, first on line {}", first->path, first->line));
      }
      ConfigNode& child = node.entry(key);
      child.line = line;
      read(pair.second, child, depth + 1);
    }
  }

  std::string origin_;
  bool is_file_;
};

YAML::Node load_yaml(const std::string& text, const TreeReader& reader) {
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAll(text);
  } catch (const YAML::Exception& error) {
    reader.refuse_text(text, error.mark.line + 1, "not valid YAML: " + error.msg);
  }
  if (documents.size() > 1) {
    reader.refuse_text(text, 0, "holds several YAML documents, but must be one");
  }
  return documents.empty() ? YAML::Node() : documents.front();
}

void emit(const ConfigNode& node, YAML::Emitter& out) {
  switch (node.kind) {
    case Kind::none:
      out << YAML::Null;
      break;
    case Kind::scalar:
      if (node.quoted) out << YAML::DoubleQuoted;
      out << node.text;
      break;
    case Kind::list:
      out << YAML::Flow << YAML::BeginSeq;
      for (const auto& item : node.children) emit(*item, out);
      out << YAML::EndSeq;
      break;
    case Kind::section:
      out << YAML::BeginMap;
      for (const auto& entry : node.children) {
        if (entry->kind == Kind::none) continue;
        out << YAML::Key << entry->key << YAML::Value;
        emit(*entry, out);
      }
      out << YAML::EndMap;
  }
}

/// Gives every entry below `node` its path, which follows from the node's.
void set_paths(ConfigNode& node) {
  for (const auto& child : node.children) {
    child->path = node.kind == Kind::section ? joined(node.path, child->key) : node.path;
    set_paths(*child);
  }
}

void mark_override(ConfigNode& node, const std::string& key) {
  node.override_key = key;
  for (const auto& child : node.children) {
    mark_override(*child, node.kind == Kind::section ? joined(key, child->key) : key);
  }
}

std::vector<std::string> split_key(const std::string& dotted, const std::string& assignment) {
  std::vector<std::string> keys;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = dotted.find('.', begin);
    keys.push_back(dotted.substr(begin, end - begin));
    ISOBAR_CHECK(!keys.back().empty(), "command line: '", assignment,
                 "' is not section.key=value: a key is empty");
  }
  return keys;
}

std::vector<std::string> known_keys(const ConfigNode& section) {
  std::vector<std::string> keys;
  for (const auto& entry : section.children) {
    if (entry->known) keys.push_back(entry->key);
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

/// On the command line the whole key is named, so the suggestion is whole too.
std::string unknown_override(const ConfigNode& entry, const ConfigNode& section) {
  const std::string rest = entry.override_key.substr(entry.path.size());
  std::vector<std::string> candidates;
  std::string message = fmt::format("command line: unknown key '{}'; ", entry.override_key);
  if (const auto near = nearest(entry.key, known_keys(section))) {
    return message + fmt::format("did you mean '{}{}'?", joined(section.path, *near), rest);
  }
  for (const std::string& key : known_keys(section)) {
    candidates.push_back(joined(section.path, key));
  }
  return message + "known: " + (candidates.empty() ? "none" : join_words(candidates));
}

}  // namespace

ConfigNode* ConfigNode::find(std::string_view name) const {
  for (const auto& child : children) {
    if (child->key == name) return child.get();
  }
  return nullptr;
}

ConfigNode& ConfigNode::entry(const std::string& name) {
  if (ConfigNode* existing = find(name)) return *existing;
  children.push_back(std::make_unique<ConfigNode>());
  children.back()->key = name;
  children.back()->path = joined(path, name);
  return *children.back();
}

void ConfigNode::set_value(ConfigNode&& value) {
  kind = value.kind;
  text = std::move(value.text);
  quoted = value.quoted;
  is_default = value.is_default;
  children = std::move(value.children);
  set_paths(*this);
}

ConfigNode parse_tree(const std::string& text, const std::string& name) {
  const TreeReader reader(name, true);
  const YAML::Node yaml = load_yaml(text, reader);
  ConfigNode root;
  reader.read(yaml, root);
  if (root.kind == Kind::none) root.kind = Kind::section;
  if (root.kind != Kind::section) reader.fail(0, "must hold sections and keys (key: value)");
  root.line = 0;
  set_paths(root);
  return root;
}

void apply_override(ConfigDocument& document, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  ISOBAR_CHECK(equals != std::string::npos, "command line: '", assignment,
               "' is not section.key=value");
  const std::string dotted = assignment.substr(0, equals);
  ConfigNode* node = &document.root;
  for (const std::string& key : split_key(dotted, assignment)) {
    if (node->kind == Kind::none) node->kind = Kind::section;
    ISOBAR_CHECK(node->kind == Kind::section, "command line: cannot set '", dotted, "': '",
                 node->path, "' is not a section");
    const bool is_new = node->find(key) == nullptr;
    node = &node->entry(key);
    if (is_new) node->override_key = dotted;
  }
  const TreeReader reader(fmt::format("command line: '{}'", assignment), false);
  ConfigNode value;
  reader.read(load_yaml(assignment.substr(equals + 1), reader), value);
  node->set_value(std::move(value));
  mark_override(*node, dotted);
}

std::string origin_of(const ConfigDocument& document, const ConfigNode& node) {
  if (!node.override_key.empty()) return "command line";
  return node.line > 0 ? fmt::format("{}:{}", document.name, node.line) : document.name;
}

std::string describe(const ConfigNode& node) {
  switch (node.kind) {
    case Kind::none:
      return "nothing";
    case Kind::list:
      return "the list " + emit_yaml(node);
    case Kind::section:
      return "a section";
    case Kind::scalar:
      break;
  }
  return fmt::format("{}'{}'", node.quoted ? "the string " : "", node.text);
}

bool is_written(const ConfigNode& node) { return node.line > 0 || !node.override_key.empty(); }

bool is_given(const ConfigNode& node) { return node.kind != Kind::none && !node.is_default; }

void flatten_tree(const ConfigNode& node, std::vector<std::string>& lines) {
  if (node.kind == Kind::section) {
    for (const auto& entry : node.children) flatten_tree(*entry, lines);
  } else if (node.kind != Kind::none) {
    lines.push_back(node.path + "=" + emit_yaml(node));
  }
}

std::string emit_yaml(const ConfigNode& node) {
  YAML::Emitter out;
  emit(node, out);
  return out.c_str();
}

void reject_unknown(const ConfigDocument& document, const ConfigNode& section) {
  for (const auto& entry : section.children) {
    if (entry->known && entry->kind == Kind::section) reject_unknown(document, *entry);
    if (entry->known) continue;
    if (!entry->override_key.empty()) throw UsageError(unknown_override(*entry, section));
    const std::string in =
        section.path.empty() ? "" : fmt::format(" in section '{}'", section.path);
    throw UsageError(fmt::format("{}: unknown key '{}'{}; {}", origin_of(document, *entry),
                                 entry->key, in, did_you_mean(entry->key, known_keys(section))));
  }
}

}  // namespace isobar::detail
