// SPDX-License-Identifier: Apache-2.0
#include "data/nc_writer.hpp"

#include <functional>
#include <numeric>
#include <stdexcept>

namespace isobar::test {
namespace {

hid_t must(hid_t id) {
  if (id < 0) throw std::runtime_error("HDF5 refused to write a test file");
  return id;
}

void add_attribute(hid_t file, const std::string& variable, const std::string& name, hid_t type,
                   hid_t space, const std::function<herr_t(hid_t)>& write) {
  const hid_t object = must(H5Oopen(file, variable.c_str(), H5P_DEFAULT));
  const hid_t attribute =
      must(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT));
  must(write(attribute));
  H5Aclose(attribute);
  H5Oclose(object);
  H5Sclose(space);
}

hid_t layout_of(const NcVariable& variable) {
  const hid_t layout = must(H5Pcreate(H5P_DATASET_CREATE));
  if (variable.fill_off) {
    must(H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER));
  } else {
    must(H5Pset_fill_value(layout, H5T_NATIVE_DOUBLE, &variable.fill));
  }
  if (variable.chunk.empty()) return layout;
  must(H5Pset_chunk(layout, static_cast<int>(variable.chunk.size()), variable.chunk.data()));
  if (variable.shuffle) must(H5Pset_shuffle(layout));
  if (variable.deflate >= 0) must(H5Pset_deflate(layout, static_cast<unsigned>(variable.deflate)));
  if (variable.fletcher32) must(H5Pset_fletcher32(layout));
  if (variable.filter != 0) must(H5Pset_filter(layout, variable.filter, 0, 0, nullptr));
  return layout;
}

}  // namespace

NcWriter::NcWriter(const std::string& path, std::map<std::string, hsize_t> dimensions)
    : file_(must(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT))),
      lengths_(std::move(dimensions)) {}

NcWriter::~NcWriter() { H5Fclose(file_); }

void NcWriter::add(const NcVariable& variable) {
  std::vector<hsize_t> shape;
  for (const std::string& name : variable.dimensions) shape.push_back(lengths_.at(name));
  const std::vector<hsize_t> unlimited(shape.size(), H5S_UNLIMITED);
  const hid_t space =
      must(shape.empty() ? H5Screate(H5S_SCALAR)
                         : H5Screate_simple(static_cast<int>(shape.size()), shape.data(),
                                            variable.unlimited ? unlimited.data() : nullptr));
  const hid_t links = must(H5Pcreate(H5P_LINK_CREATE));
  must(H5Pset_create_intermediate_group(links, 1));
  const hid_t layout = layout_of(variable);
  const hid_t dataset = must(
      H5Dcreate2(file_, variable.name.c_str(), variable.type, space, links, layout, H5P_DEFAULT));
  if (!variable.values.empty()) {
    must(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                  variable.values.data()));
  }
  H5Dclose(dataset);
  H5Pclose(layout);
  H5Pclose(links);
  H5Sclose(space);
  dimensions_[variable.name] = variable.dimensions;
  if (variable.dimensions == std::vector<std::string>{variable.name}) {
    text(variable.name, "CLASS", "DIMENSION_SCALE");
    text(variable.name, "NAME", variable.name);
  }
}

void NcWriter::text(const std::string& variable, const std::string& name,
                    const std::string& value) {
  const hid_t type = must(H5Tcopy(H5T_C_S1));
  must(H5Tset_size(type, value.size()));
  add_attribute(file_, variable, name, type, must(H5Screate(H5S_SCALAR)),
                [&](hid_t attribute) { return H5Awrite(attribute, type, value.data()); });
  H5Tclose(type);
}

void NcWriter::vlen_text(const std::string& variable, const std::string& name,
                         const std::string& value) {
  const hid_t type = must(H5Tcopy(H5T_C_S1));
  must(H5Tset_size(type, H5T_VARIABLE));
  const char* pointer = value.c_str();
  add_attribute(file_, variable, name, type, must(H5Screate(H5S_SCALAR)),
                [&](hid_t attribute) { return H5Awrite(attribute, type, &pointer); });
  H5Tclose(type);
}

void NcWriter::number(const std::string& variable, const std::string& name, double value,
                      hid_t type) {
  numbers(variable, name, {value}, type);
}

void NcWriter::numbers(const std::string& variable, const std::string& name,
                       const std::vector<double>& values, hid_t type) {
  const hsize_t count = values.size();
  add_attribute(
      file_, variable, name, type, must(H5Screate_simple(1, &count, nullptr)),
      [&](hid_t attribute) { return H5Awrite(attribute, H5T_NATIVE_DOUBLE, values.data()); });
}

void NcWriter::add_texts(const std::string& dimension, const std::vector<std::string>& values) {
  const hsize_t count = values.size();
  const hid_t space = must(H5Screate_simple(1, &count, nullptr));
  const hid_t type = must(H5Tcopy(H5T_C_S1));
  must(H5Tset_size(type, H5T_VARIABLE));
  const hid_t dataset = must(
      H5Dcreate2(file_, dimension.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  std::vector<const char*> pointers;
  for (const std::string& value : values) pointers.push_back(value.c_str());
  must(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()));
  H5Dclose(dataset);
  H5Tclose(type);
  H5Sclose(space);
  text(dimension, "CLASS", "DIMENSION_SCALE");
  text(dimension, "NAME", dimension);
}

void NcWriter::integers(const std::string& variable, const std::string& name,
                        const std::vector<int>& values) {
  const hsize_t count = values.size();
  add_attribute(
      file_, variable, name, H5T_STD_I32LE, must(H5Screate_simple(1, &count, nullptr)),
      [&](hid_t attribute) { return H5Awrite(attribute, H5T_NATIVE_INT, values.data()); });
}

void NcWriter::dimension_only(const std::string& name) {
  add({.name = name, .dimensions = {name}, .values = {}, .type = H5T_IEEE_F32BE});
  const hid_t object = must(H5Oopen(file_, name.c_str(), H5P_DEFAULT));
  must(H5Adelete(object, "NAME"));
  H5Oclose(object);
  text(name, "NAME", "This is a netCDF dimension but not a netCDF variable         2");
}

void NcWriter::attach_dimensions(const std::string& variable) {
  const std::vector<std::string>& names = dimensions_.at(variable);
  std::vector<hobj_ref_t> references(names.size());
  std::vector<hvl_t> lists(names.size());
  for (std::size_t d = 0; d < names.size(); ++d) {
    must(H5Rcreate(&references[d], file_, names[d].c_str(), H5R_OBJECT, -1));
    lists[d] = {1, &references[d]};
  }
  const hid_t type = must(H5Tvlen_create(H5T_STD_REF_OBJ));
  const hsize_t count = names.size();
  add_attribute(file_, variable, "DIMENSION_LIST", type, must(H5Screate_simple(1, &count, nullptr)),
                [&](hid_t attribute) { return H5Awrite(attribute, type, lists.data()); });
  H5Tclose(type);
}

double weather_value(int variable, double hour, double latitude, double longitude) {
  return 1000 * variable + 100 * (hour - 6 * static_cast<int>(hour / 6)) + 10 * latitude +
         longitude + hour / 64;
}

namespace {

std::vector<double> weather_values(const WeatherFile& weather, int variable) {
  const std::map<std::string, const std::vector<double>*> axes = {
      {"time", &weather.hours},
      {"latitude", &weather.latitudes},
      {"longitude", &weather.longitudes}};
  std::vector<double> values;
  if (weather.value) {  // in the usual order
    const auto points = static_cast<int64_t>(weather.latitudes.size() * weather.longitudes.size());
    for (const double hour : weather.hours) {
      for (int64_t p = 0; p < points; ++p) values.push_back(weather.value(variable, hour, p));
    }
    return values;
  }
  for (const double a : *axes.at(weather.order[0])) {
    for (const double b : *axes.at(weather.order[1])) {
      for (const double c : *axes.at(weather.order[2])) {
        const std::map<std::string, double> at = {
            {weather.order[0], a}, {weather.order[1], b}, {weather.order[2], c}};
        values.push_back(
            weather_value(variable, at.at("time"), at.at("latitude"), at.at("longitude")));
      }
    }
  }
  return values;
}

}  // namespace

void write_weather(const std::string& path, const WeatherFile& weather) {
  NcWriter writer(path, {{"time", weather.hours.size()},
                         {"latitude", weather.latitudes.size()},
                         {"longitude", weather.longitudes.size()}});
  writer.add(
      {.name = "time", .dimensions = {"time"}, .values = weather.hours, .type = H5T_STD_I64LE});
  writer.text("time", "units", "hours since 2019-03-01");
  writer.text("time", "calendar", weather.calendar);
  writer.add({.name = "latitude", .dimensions = {"latitude"}, .values = weather.latitudes});
  writer.text("latitude", "units", "degrees_north");
  writer.add({.name = "longitude", .dimensions = {"longitude"}, .values = weather.longitudes});
  writer.text("longitude", "units", "degrees_east");
  for (std::size_t v = 0; v < weather.variables.size(); ++v) {
    const std::string& name = weather.variables[v];
    writer.add({.name = name,
                .dimensions = weather.order,
                .values = weather_values(weather, static_cast<int>(v)),
                .chunk = weather.chunk,
                .deflate = weather.deflate,
                .unlimited = weather.unlimited});
    writer.text(name, "units", weather.units);
    writer.attach_dimensions(name);
  }
}

WeatherFile large_weather(int64_t hours) {
  WeatherFile weather{.hours = std::vector<double>(hours), .latitudes = {}, .longitudes = {}};
  std::iota(weather.hours.begin(), weather.hours.end(), 0);
  for (int i = 0; i < 128; ++i) weather.latitudes.push_back(63 - i);
  for (int i = 0; i < 256; ++i) weather.longitudes.push_back(i - 128);
  return weather;
}

void write_with_levels(const std::string& path) {
  NcWriter writer(path, {{"time", 2}, {"level", 2}, {"latitude", 2}, {"longitude", 2}});
  const auto axis = [&](const char* name, const std::vector<double>& values, const char* units) {
    writer.add({.name = name, .dimensions = {name}, .values = values});
    writer.text(name, "units", units);
  };
  axis("time", {0, 1}, "hours since 2019-03-01");
  axis("level", {850, 500}, "hPa");
  axis("latitude", {50, 49}, "degrees_north");
  axis("longitude", {0, 1}, "degrees_east");
  writer.add({.name = "t",
              .dimensions = {"time", "level", "latitude", "longitude"},
              .values = std::vector<double>(16, 1)});
  writer.attach_dimensions("t");
}

}  // namespace isobar::test
