// SPDX-License-Identifier: Apache-2.0
// Called by netcdf.cpp where a file is opened, with an Hdf5Session held.
//
// The conventions by which netCDF-4 lies in HDF5:
// https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html#netcdf_4_spec
// Files that netCDF-4 did not write are read as well: where they lack what the conventions want, a
// dimension gets a name that is made up, as netCDF does it.
#include <isobar/hdf5/catalogue.hpp>

#include <isobar/core/error.hpp>
#include <isobar/hdf5/attribute.hpp>
#include <isobar/hdf5/handle.hpp>
#include <hdf5.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace isobar {
namespace {

constexpr std::string_view kNoVariable = "This is a netCDF dimension but not a netCDF variable";
constexpr std::string_view kNoCoordinate = "_nc4_non_coord_";
// Hard links can form rings; no netCDF file nests this deep.
constexpr int kDeepestGroup = 32;

std::string last_part(const std::string& path) {
  std::string name = path.substr(path.rfind('/') + 1);
  if (name.starts_with(kNoCoordinate)) name.erase(0, kNoCoordinate.size());
  return name;
}

std::string netcdf_name(const std::string& hdf5_path) {
  return hdf5_path.substr(1, hdf5_path.rfind('/')) + last_part(hdf5_path);
}

herr_t collect_hard_link(hid_t, const char* name, const H5L_info_t* info, void* names) {
  if (info->type == H5L_TYPE_HARD)
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

void list_datasets(hid_t group, const std::string& prefix, int depth, const std::string& path,
                   std::vector<std::string>& datasets) {
  // In the order stored: to sort them, HDF5 1.10 builds a table of names, and
  // where the group is damaged it crashes on freeing that.
  std::vector<std::string> names;
  check_status(H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect_hard_link, &names),
               detail::join(path, ": group '", prefix, "', truncated or damaged"));
  for (const std::string& name : names) {
    const std::string full = prefix + name;
    const auto object = checked(H5Oopen(group, name.c_str(), H5P_DEFAULT), H5Oclose,
                                detail::join(path, ": object '", full, "'"));
    const H5I_type_t kind = H5Iget_type(object.get());
    if (kind == H5I_DATASET) datasets.push_back(full);
    if (kind == H5I_GROUP && depth < kDeepestGroup) {
      list_datasets(object.get(), full + "/", depth + 1, path, datasets);
    }
  }
}

bool is_scale(hid_t dataset) {
  if (!has_attribute(dataset, "CLASS")) return false;
  const Attribute kind = read_attribute(dataset, "CLASS", "CLASS");
  const auto* text = std::get_if<std::vector<std::string>>(&kind);
  return text != nullptr && !text->empty() && text->front() == "DIMENSION_SCALE";
}

bool is_only_dimension(hid_t dataset) {
  if (!is_scale(dataset) || !has_attribute(dataset, "NAME")) return false;
  const Attribute name = read_attribute(dataset, "NAME", "NAME");
  const auto* text = std::get_if<std::vector<std::string>>(&name);
  return text != nullptr && !text->empty() && text->front().starts_with(kNoVariable);
}

std::string name_of_reference(hid_t dataset, hobj_ref_t reference) {
  const Hdf5Handle scale{H5Rdereference2(dataset, H5P_DEFAULT, H5R_OBJECT, &reference), H5Oclose};
  if (!scale) return {};
  const ssize_t length = H5Iget_name(scale.get(), nullptr, 0);
  if (length <= 0) return {};
  std::string name(static_cast<std::size_t>(length), '\0');
  H5Iget_name(scale.get(), name.data(), name.size() + 1);
  return last_part(name);
}

/// The dimension scales attached to each dimension; "" where there is none.
std::vector<std::string> attached_scales(hid_t dataset, std::size_t rank, const std::string& what) {
  std::vector<std::string> names(rank);
  if (!has_attribute(dataset, "DIMENSION_LIST")) return names;
  const auto attribute = checked(H5Aopen(dataset, "DIMENSION_LIST", H5P_DEFAULT), H5Aclose, what);
  const auto type = checked(H5Aget_type(attribute.get()), H5Tclose, what);
  const auto space = checked(H5Aget_space(attribute.get()), H5Sclose, what);
  if (H5Tget_class(type.get()) != H5T_VLEN ||
      H5Sget_simple_extent_npoints(space.get()) != static_cast<hssize_t>(rank)) {
    return names;
  }
  std::vector<hvl_t> lists(rank);
  check_status(H5Aread(attribute.get(), type.get(), lists.data()), what);
  for (std::size_t d = 0; d < rank; ++d) {
    if (lists[d].len > 0)
      names[d] = name_of_reference(dataset, *static_cast<hobj_ref_t*>(lists[d].p));
  }
  H5Dvlen_reclaim(type.get(), space.get(), H5P_DEFAULT, lists.data());
  return names;
}

using DimensionIds = std::map<int64_t, std::string>;

std::vector<std::string> dimension_names(hid_t dataset, const std::string& hdf5_path,
                                         std::size_t rank, const DimensionIds& ids,
                                         const std::string& what) {
  if (is_scale(dataset) && rank == 1) return {last_part(hdf5_path)};
  std::vector<std::string> names = attached_scales(dataset, rank, what);
  // A coordinate variable of several dimensions has no list: it is a scale itself.
  std::vector<int64_t> own_ids = integers_of(dataset, "_Netcdf4Coordinates", what);
  if (own_ids.empty()) own_ids = integers_of(dataset, "_Netcdf4Dimid", what);
  for (std::size_t d = 0; d < rank; ++d) {
    if (!names[d].empty()) continue;
    const auto found = d < own_ids.size() ? ids.find(own_ids[d]) : ids.end();
    names[d] = found != ids.end() ? found->second : "phony_dim_" + std::to_string(d);
  }
  return names;
}

/// netCDF sets HDF5's fill value unless fill is off.
bool has_fill_value(hid_t layout) {
  H5D_fill_value_t value = H5D_FILL_VALUE_UNDEFINED;
  H5D_fill_time_t time = H5D_FILL_TIME_NEVER;
  return H5Pfill_value_defined(layout, &value) >= 0 && H5Pget_fill_time(layout, &time) >= 0 &&
         value == H5D_FILL_VALUE_USER_DEFINED && time != H5D_FILL_TIME_NEVER;
}

void read_shape(hid_t dataset, VariableInfo& info, const std::string& what) {
  const auto space = checked(H5Dget_space(dataset), H5Sclose, what);
  const int rank = std::max(0, H5Sget_simple_extent_ndims(space.get()));
  std::vector<hsize_t> lengths(static_cast<std::size_t>(rank));
  if (rank > 0) H5Sget_simple_extent_dims(space.get(), lengths.data(), nullptr);
  info.shape.assign(lengths.begin(), lengths.end());

  const auto layout = checked(H5Dget_create_plist(dataset), H5Pclose, what);
  info.filled = has_fill_value(layout.get());
  if (H5Pget_layout(layout.get()) != H5D_CHUNKED) return;
  H5Pget_chunk(layout.get(), rank, lengths.data());
  info.chunk.assign(lengths.begin(), lengths.end());
}

DimensionIds dimension_ids(hid_t file, const std::vector<std::string>& datasets,
                           const std::string& path) {
  DimensionIds ids;
  for (const std::string& name : datasets) {
    const std::string what = detail::join(path, ": variable '", name, "'");
    const auto dataset = checked(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, what);
    const std::vector<int64_t> id = integers_of(dataset.get(), "_Netcdf4Dimid", what);
    if (id.size() == 1 && is_scale(dataset.get())) ids.emplace(id.front(), last_part(name));
  }
  return ids;
}

}  // namespace

std::map<std::string, CatalogueEntry> read_catalogue(hid_t file, const std::string& path) {
  std::vector<std::string> datasets;
  list_datasets(file, "/", 0, path, datasets);
  const DimensionIds ids = dimension_ids(file, datasets, path);
  std::map<std::string, CatalogueEntry> catalogue;
  for (const std::string& name : datasets) {
    CatalogueEntry entry;
    entry.hdf5_path = name;
    entry.info.name = netcdf_name(name);
    const std::string what = detail::join(path, ": variable '", entry.info.name, "'");
    const auto dataset = checked(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, what);
    if (is_only_dimension(dataset.get())) continue;
    const auto type = checked(H5Dget_type(dataset.get()), H5Tclose, what);
    entry.info.type = type_name(type.get());
    read_shape(dataset.get(), entry.info, what);
    entry.info.dimensions =
        dimension_names(dataset.get(), name, entry.info.shape.size(), ids, what);
    read_attributes(dataset.get(), entry.info, what);
    catalogue.emplace(entry.info.name, std::move(entry));
  }
  return catalogue;
}

}  // namespace isobar
