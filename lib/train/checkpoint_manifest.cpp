// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint_manifest.hpp"

#include <isobar/core/atomic_file.hpp>
#include <isobar/core/error.hpp>
#include <isobar/core/version.hpp>

#include <nlohmann/json.hpp>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <type_traits>

namespace isobar {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "isobar.checkpoint";
constexpr int kFormatVersion = 1;

[[noreturn]] void reject(const std::filesystem::path& path, const std::string& what) {
  throw DataError(detail::join("checkpoint ", path.string(), ": ", what));
}

/// JSON has no NaN and no infinities: these go as {"real": "nan"}.
json scalar_to_json(const StateScalar& scalar) {
  return std::visit(
      [](const auto& value) -> json {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, double>) {
          if (std::isnan(value)) return {{"real", "nan"}};
          if (std::isinf(value)) return {{"real", value > 0 ? "inf" : "-inf"}};
        }
        return value;
      },
      scalar);
}

StateScalar scalar_from_json(const json& value) {
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number_float()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  const auto name = value.at("real").get<std::string>();
  if (name == "nan") return std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  return name == "inf" ? infinity : -infinity;
}

json part_to_json(const ManifestPart& part) {
  json scalars = json::object();
  for (const auto& [key, scalar] : part.scalars) scalars[key] = scalar_to_json(scalar);
  return {{"name", part.name},        {"version", part.version},        {"file", part.file},
          {"bytes", part.hash.bytes}, {"xxh3_128", part.hash.xxh3_128}, {"scalars", scalars}};
}

ManifestPart part_from_json(const json& value) {
  ManifestPart part{
      .name = value.at("name").get<std::string>(),
      .version = value.at("version").get<int>(),
      .file = value.at("file").get<std::string>(),
      .hash = {value.at("bytes").get<std::uint64_t>(), value.at("xxh3_128").get<std::string>()},
      .scalars = {}};
  for (const auto& [key, scalar] : value.at("scalars").items()) {
    part.scalars.emplace(key, scalar_from_json(scalar));
  }
  return part;
}

Manifest from_json(const json& value) {
  Manifest manifest{.step = value.at("step").get<std::int64_t>(),
                    .metadata = value.at("metadata").get<std::map<std::string, std::string>>(),
                    .parts = {}};
  for (const json& part : value.at("parts")) manifest.parts.push_back(part_from_json(part));
  return manifest;
}

/// The hash is over the rest, as dump() writes it.
void check_own_hash(const std::filesystem::path& path, json& value) {
  const auto hash = value.at("xxh3_128").get<std::string>();
  value.erase("xxh3_128");
  if (hash != hash_text(value.dump())) reject(path, "damaged: it does not have its own hash");
}

}  // namespace

void write_manifest(const std::filesystem::path& folder, const Manifest& manifest) {
  json value = {{"format", kFormat},     {"format_version", kFormatVersion},
                {"isobar", version()},   {"commit", commit()},
                {"step", manifest.step}, {"metadata", manifest.metadata},
                {"parts", json::array()}};
  for (const ManifestPart& part : manifest.parts) value["parts"].push_back(part_to_json(part));
  try {
    value["xxh3_128"] = hash_text(value.dump());
  } catch (const json::exception&) {
    throw UsageError(detail::join("save checkpoint ", folder.string(),
                                  ": a text in its metadata or scalars is not UTF-8"));
  }
  write_file_atomically(folder / kManifestName, value.dump(2) + "\n");
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifestName;
  std::ifstream file(path, std::ios::binary);
  if (!file) reject(folder, "is no checkpoint: manifest.json is missing or cannot be read");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  try {
    json value = json::parse(text);
    if (value.at("format") != kFormat) reject(path, "is no manifest of a checkpoint");
    if (value.at("format_version").get<int>() > kFormatVersion) {
      reject(path, detail::join("has format ", value.at("format_version").dump(),
                                ", this isobar reads up to ", kFormatVersion));
    }
    check_own_hash(path, value);
    return from_json(value);
  } catch (const json::exception& error) {
    reject(path, detail::join("damaged: ", error.what()));
  }
}

void verify_part(const std::filesystem::path& folder, const ManifestPart& part) {
  const std::filesystem::path path = folder / part.file;
  const FileHash found = hash_file(path);
  if (found.bytes != part.hash.bytes) {
    reject(path, detail::join("part '", part.name, "' is damaged: it has ", found.bytes,
                              " bytes, the manifest says ", part.hash.bytes));
  }
  if (found != part.hash) {
    reject(path, detail::join("part '", part.name, "' is damaged: its hash is ", found.xxh3_128,
                              ", the manifest says ", part.hash.xxh3_128));
  }
}

}  // namespace isobar
