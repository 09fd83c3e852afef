// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/units.hpp>

#include <gtest/gtest.h>

namespace isobar::units_test {
namespace {

TEST(Units, AreTheSameInTheirSpellings) {
  for (const char* other : {"m s**-1", "m/s", "m s^-1", "m.s-1", "s-1 m", "metre second-1"}) {
    EXPECT_TRUE(same_units("m s-1", other)) << other;
  }
  for (const char* other : {"kg/m2", "kg m**-2", "kg m-2", "kg m^-2"}) {
    EXPECT_TRUE(same_units("kg m-2", other)) << other;
  }
  for (const char* other : {"kelvin", "Kelvin", "degK"}) EXPECT_TRUE(same_units("K", other));
  for (const char* other : {"celsius", "degree_Celsius", "degrees_celsius"}) {
    EXPECT_TRUE(same_units("degC", other)) << other;
  }
  for (const char* length : {"meter", "meters", "metre", "metres"}) {
    for (const char* time : {"second-1", "seconds-1"}) {
      EXPECT_TRUE(same_units("m s-1", std::string(length) + " " + time)) << length << time;
    }
  }
  EXPECT_TRUE(same_units("%", "percent"));
  EXPECT_TRUE(same_units("(0 - 1)", "(0 - 1)"));
  EXPECT_TRUE(same_units("", ""));
}

TEST(Units, AreOthersWhereTheyMeanAnother) {
  EXPECT_FALSE(same_units("K", "degC"));
  EXPECT_FALSE(same_units("Pa", "hPa"));
  EXPECT_FALSE(same_units("m", "mm"));
  EXPECT_FALSE(same_units("m s-1", "m s"));
  EXPECT_FALSE(same_units("m2 s-2", "m s-2"));
  EXPECT_FALSE(same_units("m/s", "m/s2"));
  EXPECT_FALSE(same_units("(0 - 1)", "%"));
  EXPECT_FALSE(same_units("1", "%"));
  EXPECT_FALSE(same_units("K", ""));
  EXPECT_FALSE(same_units("", "1"));
  EXPECT_FALSE(same_units("kg kg-1", "1")) << "factors that cancel are still a mass per mass";
}

}  // namespace
}  // namespace isobar::units_test
