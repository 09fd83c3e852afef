// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/normalizer.hpp>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <isobar/core/error.hpp>
#include <isobar/data/dataset.hpp>
#include <cmath>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "data/nc_writer.hpp"

namespace isobar::normalizer_test {
namespace {

using test::message_of;

const VariableStatistics kKnown{.mean = 3, .stdev = 2, .minimum = -1, .maximum = 4, .count = 10};

TEST(Statistics, AgreeWithAPlainDoubleLoop) {
  const Dataset dataset({.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}});
  const std::vector<int64_t> times = {0, 5, 17, 100, 700};
  double sum = 0;
  double squares = 0;
  double count = 0;
  for (const int pass : {0, 1}) {
    for (const int64_t time : times) {
      const at::Tensor field = dataset.read(time);
      for (int64_t point = 0; point < field.size(0); ++point) {
        const double value = field.data_ptr<float>()[point];
        if (pass == 0) sum += value, ++count;
        if (pass == 1) squares += (value - sum / count) * (value - sum / count);
      }
    }
  }
  const VariableStatistics statistics = compute_statistics(dataset, times).front();
  EXPECT_EQ(statistics.count, static_cast<int64_t>(count));
  EXPECT_NEAR(statistics.mean, sum / count, 1e-10);
  EXPECT_NEAR(statistics.stdev, std::sqrt(squares / count), 1e-10);
}

TEST(Statistics, OfTheWholeExampleAreNumpys) {
  const Dataset dataset({.paths = {ISOBAR_EXAMPLE_DATA}, .variables = {"t2m"}});
  std::vector<int64_t> times(744);
  for (int64_t time = 0; time < 744; ++time) times[time] = time;
  const VariableStatistics statistics = compute_statistics(dataset, times).front();
  EXPECT_NEAR(statistics.mean, 280.7740585847981, 1e-9);
  EXPECT_NEAR(statistics.stdev, 2.2879161465243336, 1e-9);
}

TEST(Statistics, SeparateVariables) {
  const test::TemporaryFolder folder;
  test::write_weather(folder / "a.nc", {.variables = {"t", "u"}});
  const Dataset dataset({.paths = {folder / "a.nc"}, .variables = {"t", "u"}});
  const auto statistics = compute_statistics(dataset, {0, 1, 2});
  EXPECT_EQ(statistics[0].minimum, test::weather_value(0, 0, 49, -1));
  EXPECT_EQ(statistics[0].maximum, test::weather_value(0, 2, 50, 1));
  EXPECT_EQ(statistics[1].mean - statistics[0].mean, 1000);
}

TEST(Normalizer, MapsByEachMethod) {
  const std::vector<std::string> names = {"a", "b", "c", "d", "e"};
  const Normalizer normalizer(names, std::vector<VariableStatistics>(5, kKnown),
                              {{"b", Normalization::std},
                               {"c", Normalization::max},
                               {"d", Normalization::min_max},
                               {"e", Normalization::none}});
  const at::Tensor values = normalizer.normalize(at::full({2, 5}, 4.0F));
  EXPECT_TRUE(at::allclose(values[0], at::tensor({0.5F, 2.0F, 1.0F, 1.0F, 4.0F}), 0, 1e-6));
  EXPECT_TRUE(at::allclose(normalizer.denormalize(values), at::full({2, 5}, 4.0F), 0, 1e-6));
}

TEST(Normalizer, WorksInPlaceOnViews) {
  const Normalizer normalizer({"a"}, {kKnown});
  const at::Tensor values = at::full({3, 1}, 5.0F);
  normalizer.normalize_(values[1]);
  EXPECT_TRUE(at::equal(values, at::tensor({5.0F, 1.0F, 5.0F}).view({3, 1})));
  normalizer.denormalize_(values[1]);
  EXPECT_TRUE(at::equal(values, at::full({3, 1}, 5.0F)));
}

TEST(Normalizer, ComesBackFromItsTensors) {
  const Normalizer first({"a", "b"}, {kKnown, {.mean = 7, .stdev = 0.3}});
  const Normalizer second = Normalizer::from_tensors({"a", "b"}, first.tensors());
  const at::Tensor values = at::arange(20, at::kFloat).reshape({10, 2});
  EXPECT_TRUE(at::equal(first.normalize(values), second.normalize(values)));
}

TEST(Normalizer, NamesAConstantVariable) {
  const VariableStatistics constant{.mean = 1, .stdev = 0, .minimum = 1, .maximum = 1, .count = 5};
  const std::string message = message_of<DataError>([&] { Normalizer({"lsm"}, {constant}); });
  EXPECT_NE(message.find("variable 'lsm' is constant"), std::string::npos) << message;
  EXPECT_NO_THROW(Normalizer({"lsm"}, {constant}, {{"lsm", Normalization::none}}));
}

TEST(Normalizer, SaysWhatFloat32MakesOfAVariable) {
  const auto words = [](double minimum, double maximum, double stdev) {
    return message_of<DataError>([&] {
      Normalizer({"p"},
                 {{.mean = minimum, .stdev = stdev, .minimum = minimum, .maximum = maximum}});
    });
  };
  const auto large = words(1e9, 1e9, 0);
  EXPECT_NE(large.find("as float32, whose steps there are 64, so it has no scale"),
            std::string::npos)
      << large;
  const auto small = words(0, 1e-39, 1e-40);
  EXPECT_NE(
      small.find("has a deviation of 1e-40 (minimum 0, maximum 1e-39), too small for float32"),
      std::string::npos)
      << small;
}

TEST(Normalizer, NamesUnknownMethodsAndVariables) {
  EXPECT_EQ(parse_normalization("min_max"), Normalization::min_max);
  EXPECT_NE(message_of<UsageError>([] { parse_normalization("mean_sdt"); }).find("'mean_std'"),
            std::string::npos);
  const std::vector<VariableStatistics> known = {kKnown};
  const std::string message = message_of<UsageError>([&] {
    Normalizer({"t2m"}, known, {{"t2n", Normalization::none}});
  });
  EXPECT_NE(message.find("unknown variable 't2n'; did you mean 't2m'?"), std::string::npos)
      << message;
}

TEST(Normalizer, RefusesTensorsThatDoNotFit) {
  EXPECT_THROW(Normalizer::from_tensors({"a"}, {{"mul", at::ones({1})}}), DataError);
  const Normalizer normalizer({"a"}, {kKnown});
  EXPECT_THROW(Normalizer::from_tensors({"a", "b"}, normalizer.tensors()), DataError);
  EXPECT_THROW(normalizer.normalize(at::ones({3, 2})), UsageError);
}

}  // namespace
}  // namespace isobar::normalizer_test
