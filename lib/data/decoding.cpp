// SPDX-License-Identifier: Apache-2.0
#include "decoding.hpp"

#include <isobar/core/error.hpp>
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace isobar::detail {
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
    throw DataError(join(path, ": variable '", variable.name, "': ", name, " is not one number"));
  }
  return numbers.front();
}

double wrap_of(const VariableInfo& variable) {
  const std::string flag = text_attribute(variable, "_Unsigned");
  if ((flag != "true" && flag != "True") || !variable.type.starts_with("int")) return 0;
  return std::ldexp(1.0, std::atoi(variable.type.c_str() + 3));
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

void unpack(at::Tensor& stored, const Decoding& decoding) {
  auto* values = stored.data_ptr<double>();
  for (int64_t i = 0; i < stored.numel(); ++i) {
    const double number = values[i] < 0 ? values[i] + decoding.wrap : values[i];
    values[i] = number * decoding.scale + decoding.offset;
  }
}

}  // namespace

Decoding decoding_of(const VariableInfo& variable, const std::string& path) {
  const std::string& type = variable.type;
  const bool integer = type.starts_with("int") || type.starts_with("uint");
  if (!integer && !type.starts_with("float")) {
    throw DataError(join(path, ": variable '", variable.name, "' holds values of type ", type,
                         ", which are no numbers"));
  }
  Decoding decoding;
  decoding.missing = numbers_of(variable, "_FillValue");
  for (const double number : numbers_of(variable, "missing_value"))
    decoding.missing.push_back(number);
  if (decoding.missing.empty()) decoding.missing = default_fill(type);
  decoding.scale = single_number(variable, "scale_factor", 1, path);
  decoding.offset = single_number(variable, "add_offset", 0, path);
  decoding.wrap = wrap_of(variable);
  decoding.packed =
      variable.attributes.count("scale_factor") + variable.attributes.count("add_offset") > 0;
  decoding.single = integer ? decoding.packed : type != "float64";
  return decoding;
}

at::Tensor decode(at::Tensor stored, const Decoding& decoding) {
  if (stored.scalar_type() == at::kFloat) {
    mask<float>(stored, decoding.missing);
    return stored;
  }
  mask<double>(stored, decoding.missing);
  if (decoding.packed || decoding.wrap != 0) unpack(stored, decoding);
  return decoding.single ? stored.to(at::kFloat) : stored;
}

}  // namespace isobar::detail
