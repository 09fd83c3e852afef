// SPDX-License-Identifier: Apache-2.0
// How netcdf.cpp reads stored values by netCDF's Attribute Conventions (the address is in the
// header): functions of their arguments, on any thread.
//
// The order matters: first the signedness, then what is missing or out of limits in stored numbers,
// then scale and offset, then the limits of what these give. A fill value looked for after scaling
// would have been rounded, and pass for weather. Attributes are often of another type than their
// variable, so a number stands for each value that its writer may have meant by it.
#include "decoding.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "time_text.hpp"

namespace isobar {
namespace {

/// The numbers of an attribute; text that holds one is taken for it, since some
/// programs write missing_value so.
std::vector<double> numbers_of(const VariableInfo& variable, const std::string& name) {
  const auto found = variable.attributes.find(name);
  if (found == variable.attributes.end()) return {};
  if (const auto* numbers = std::get_if<std::vector<double>>(&found->second)) return *numbers;
  std::vector<double> numbers;
  for (const std::string& text : std::get<std::vector<std::string>>(found->second)) {
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    if (end != text.c_str() && *end == '\0') numbers.push_back(number);
  }
  return numbers;
}

/// NC_FILL_* of netcdf.h; bytes have no default.
std::vector<double> default_fill(const std::string& type) {
  if (type == "float32" || type == "float64") return {9.9692099683868690e+36};
  if (type == "int16") return {-32767};
  if (type == "uint16") return {65535};
  if (type == "int32") return {-2147483647};
  if (type == "uint32") return {4294967295};
  if (type == "int64") return {-9223372036854775806.0};
  if (type == "uint64") return {18446744073709551614.0};
  return {};
}

double single_number(const VariableInfo& variable, const std::string& name, double otherwise,
                     const std::string& path) {
  const std::vector<double> numbers = numbers_of(variable, name);
  if (variable.attributes.count(name) == 0) return otherwise;
  if (numbers.size() != 1 || !std::isfinite(numbers.front())) {
    throw DataError(
        detail::join(path, ": variable '", variable.name, "': ", name, " is not one number"));
  }
  return numbers.front();
}

std::string type_of(const VariableInfo& variable, const std::string& attribute) {
  const auto found = variable.attribute_types.find(attribute);
  return found == variable.attribute_types.end() ? std::string{} : found->second;
}

bool is_unsigned(const std::string& type) { return type.starts_with("uint"); }
bool is_integer(const std::string& type) { return type.starts_with("int") || is_unsigned(type); }

int bits_of(const std::string& type) {
  const std::size_t digits = type.find_first_of("0123456789");
  return digits == std::string::npos ? 0 : std::atoi(type.c_str() + digits);
}

/// Types in the order in which they hold each other.
int width_of(const std::string& type) {
  return bits_of(type) + (type.starts_with("float") ? 1000 : 0);
}

Decoding::Signedness range_of(bool as_unsigned, int bits) {
  const double count = std::ldexp(1.0, bits);
  return {as_unsigned ? 0 : -count / 2, count};
}

double brought_into(const Decoding::Signedness& range, double number) {
  if (number < range.lowest) return number + range.count;
  return number >= range.lowest + range.count ? number - range.count : number;
}

/// _Unsigned says that integers are of the other signedness than their type.
Decoding::Signedness signedness_of(const VariableInfo& variable) {
  const std::string flag = lowered(text_attribute(variable, "_Unsigned"));
  const bool other = is_unsigned(variable.type) ? flag == "false" : flag == "true";
  if (!other || !is_integer(variable.type)) return {};
  return range_of(flag == "true", bits_of(variable.type));
}

/// An attribute's numbers as the variable's values are read: of the signedness that _Unsigned
/// asks for, or else, where an attribute of as many bits has the other one, of the variable's own.
std::vector<double> stored_numbers_of(const VariableInfo& variable, const std::string& name,
                                      const Decoding::Signedness& signedness) {
  const std::string type = type_of(variable, name);
  Decoding::Signedness range = signedness;
  const bool same_bits = is_integer(type) && bits_of(type) == bits_of(variable.type);
  if (range.count == 0 && is_integer(variable.type) && same_bits) {
    range = range_of(is_unsigned(variable.type), bits_of(type));
  }
  std::vector<double> numbers = numbers_of(variable, name);
  if (range.count == 0) return numbers;
  for (double& number : numbers) number = brought_into(range, number);
  return numbers;
}

/// Whether limits are of what scale and offset give: they are of the type of these, and that is
/// wider than the stored one's.
bool limits_unpacked(const VariableInfo& variable, const std::string& name, bool packed) {
  if (!packed) return false;
  const int limits = width_of(type_of(variable, name));
  const int packing = std::max(width_of(type_of(variable, "scale_factor")),
                               width_of(type_of(variable, "add_offset")));
  return limits == packing && limits > width_of(variable.type);
}

/// A number of a float32 variable may stand beside the float nearest to it.
void narrow(Decoding::Limits& limits, double lowest, double highest, bool single) {
  if (single) {
    lowest = std::min<double>(lowest, static_cast<float>(lowest));
    highest = std::max<double>(highest, static_cast<float>(highest));
  }
  limits.lowest = std::max(limits.lowest, lowest);
  limits.highest = std::min(limits.highest, highest);
}

void read_limits(const VariableInfo& variable, const std::string& path, Decoding& decoding) {
  const double infinity = std::numeric_limits<double>::infinity();
  const bool single = variable.type == "float32";
  for (const char* name : {"valid_range", "valid_min", "valid_max"}) {
    if (variable.attributes.count(name) == 0) continue;
    const bool unpacked = limits_unpacked(variable, name, decoding.packed);
    const auto numbers = unpacked ? numbers_of(variable, name)
                                  : stored_numbers_of(variable, name, decoding.signedness);
    const bool pair = std::string(name) == "valid_range";
    if (numbers.size() != (pair ? 2 : 1) || (pair && numbers[0] > numbers[1])) {
      throw DataError(detail::join(path, ": variable '", variable.name, "': ", name, " is not ",
                                   pair ? "a lowest and a highest number" : "one number",
                                   "; delete it with: ncatted -a ", name, ",", variable.name,
                                   ",d,,"));
    }
    narrow(unpacked ? decoding.unpacked_limits : decoding.stored_limits,
           std::string(name) == "valid_max" ? -infinity : numbers.front(),
           std::string(name) == "valid_min" ? infinity : numbers.back(), single);
  }
  // A limit that was packed itself comes back with a rounding error.
  const double rounding = 1e-3 * std::abs(decoding.scale);
  decoding.unpacked_limits.lowest -= rounding;
  decoding.unpacked_limits.highest += rounding;
}

/// The stored values that an attribute's number may stand for, whatever the
/// types of the two: 1e20 as a double and the float nearest to it are both
/// found in files that say 1e20 in the other type.
template <typename Scalar>
std::vector<Scalar> meant_by(double number) {
  const auto single = static_cast<float>(number);
  const double decimal = std::strtod(fmt::format("{}", single).c_str(), nullptr);
  return {static_cast<Scalar>(number), static_cast<Scalar>(single),
          single == number ? static_cast<Scalar>(decimal) : static_cast<Scalar>(number)};
}

template <typename Scalar>
void mask(at::Tensor& stored, const std::vector<double>& missing) {
  auto* values = stored.data_ptr<Scalar>();
  const int64_t count = stored.numel();
  for (const double number : missing) {
    if (std::isnan(number)) continue;  // NaN stays NaN
    const std::vector<Scalar> fills = meant_by<Scalar>(number);
    std::replace_if(
        values, values + count,
        [&](Scalar value) { return value == fills[0] || value == fills[1] || value == fills[2]; },
        std::numeric_limits<Scalar>::quiet_NaN());
  }
}

template <typename Scalar>
void mask_outside(at::Tensor& values, const Decoding::Limits& limits) {
  if (std::isinf(limits.lowest) && std::isinf(limits.highest)) return;
  auto* data = values.data_ptr<Scalar>();
  std::replace_if(
      data, data + values.numel(),
      [&](Scalar value) { return value < limits.lowest || value > limits.highest; },
      std::numeric_limits<Scalar>::quiet_NaN());
}

void unpack(at::Tensor& stored, const Decoding& decoding) {
  auto* values = stored.data_ptr<double>();
  for (int64_t i = 0; i < stored.numel(); ++i) {
    values[i] = values[i] * decoding.scale + decoding.offset;
  }
}

/// What the default fill stands for stays missing until the file says otherwise by _FillValue, or
/// has fill off.
std::vector<double> missing_numbers(const VariableInfo& variable,
                                    const Decoding::Signedness& signedness) {
  auto missing = stored_numbers_of(variable, "_FillValue", signedness);
  if (missing.empty() && variable.filled) missing = default_fill(variable.type);
  for (const double number : stored_numbers_of(variable, "missing_value", signedness)) {
    missing.push_back(number);
  }
  return missing;
}

}  // namespace

Decoding decoding_of(const VariableInfo& variable, const std::string& path) {
  const std::string& type = variable.type;
  const bool integer = is_integer(type);
  if (!integer && !type.starts_with("float")) {
    throw DataError(detail::join(path, ": variable '", variable.name, "' holds values of type ",
                                 type, ", which are no numbers"));
  }
  Decoding decoding;
  decoding.signedness = signedness_of(variable);
  decoding.missing = missing_numbers(variable, decoding.signedness);
  decoding.scale = single_number(variable, "scale_factor", 1, path);
  decoding.offset = single_number(variable, "add_offset", 0, path);
  decoding.packed =
      variable.attributes.count("scale_factor") + variable.attributes.count("add_offset") > 0;
  decoding.single = integer ? decoding.packed : type != "float64";
  read_limits(variable, path, decoding);
  return decoding;
}

Decoding coordinate_decoding_of(const VariableInfo& variable, const std::string& path) {
  VariableInfo unlimited = variable;
  for (const char* name : {"valid_range", "valid_min", "valid_max"}) {
    unlimited.attributes.erase(name);
  }
  Decoding decoding = decoding_of(unlimited, path);
  decoding.single = false;
  return decoding;
}

Decoding::Limits declared_limits(const Decoding& decoding) {
  Decoding::Limits limits = decoding.stored_limits;
  if (!decoding.packed) return limits;
  if (decoding.scale == 0) return {decoding.offset, decoding.offset};
  limits.lowest = limits.lowest * decoding.scale + decoding.offset;
  limits.highest = limits.highest * decoding.scale + decoding.offset;
  if (decoding.scale < 0) std::swap(limits.lowest, limits.highest);
  return {std::max(limits.lowest, decoding.unpacked_limits.lowest),
          std::min(limits.highest, decoding.unpacked_limits.highest)};
}

at::Tensor decode(at::Tensor stored, const Decoding& decoding) {
  if (stored.scalar_type() == at::kFloat) {
    mask<float>(stored, decoding.missing);
    mask_outside<float>(stored, decoding.stored_limits);
    return stored;
  }
  if (decoding.signedness.count != 0) {
    auto* values = stored.data_ptr<double>();
    std::transform(values, values + stored.numel(), values,
                   [&](double value) { return brought_into(decoding.signedness, value); });
  }
  mask<double>(stored, decoding.missing);
  mask_outside<double>(stored, decoding.stored_limits);
  if (decoding.packed) {
    unpack(stored, decoding);
    mask_outside<double>(stored, decoding.unpacked_limits);
  }
  return decoding.single ? stored.to(at::kFloat) : stored;
}

}  // namespace isobar
