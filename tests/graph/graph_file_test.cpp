// SPDX-License-Identifier: Apache-2.0
#include <isobar/core/error.hpp>
#include <isobar/graph/graph_file.hpp>
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "core/message_of.hpp"
#include "core/temporary_folder.hpp"
#include "graph/meshes.hpp"

namespace isobar::graph_file_test {
namespace {

using test::message_of;
using test::TemporaryFolder;

const GraphOptions kOptions{.hidden_level = 6, .cutoff_factor = 0.61, .max_neighbours = 9};

const WeatherGraph& region() {
  static const WeatherGraph graph = build_graph(test::regional_grid(), kOptions);
  return graph;
}

bool same(const EdgeSet& a, const EdgeSet& b) {
  return at::equal(a.source, b.source) && at::equal(a.destination, b.destination) &&
         at::equal(a.attributes, b.attributes) && a.sources == b.sources &&
         a.destinations == b.destinations;
}

bool same(const WeatherGraph& a, const WeatherGraph& b) {
  return at::equal(a.data.latitude, b.data.latitude) &&
         at::equal(a.data.longitude, b.data.longitude) && at::equal(a.data.area, b.data.area) &&
         a.data.name == b.data.name && a.data.regional == b.data.regional &&
         at::equal(a.hidden_latitude, b.hidden_latitude) &&
         at::equal(a.hidden_longitude, b.hidden_longitude) && same(a.encoder, b.encoder) &&
         same(a.processor, b.processor) && same(a.decoder, b.decoder) && a.uncovered == b.uncovered;
}

/// Where the bytes of a tensor are in a file.
std::size_t place_of(const at::Tensor& values, const std::string& bytes) {
  const std::size_t at =
      bytes.find(std::string(static_cast<const char*>(values.const_data_ptr()), values.nbytes()));
  EXPECT_NE(at, std::string::npos);
  return at;
}

TEST(GraphFile, GivesBackAllThatWasWritten) {
  const TemporaryFolder folder;
  save_graph(region(), kOptions, folder / "graph.h5");
  const StoredGraph stored = load_graph(folder / "graph.h5");

  EXPECT_TRUE(same(stored.graph, region()));
  EXPECT_EQ(stored.options, kOptions);
  EXPECT_EQ(stored.hash.size(), 32);
}

TEST(GraphFile, NeedsNoGridOfThatName) {
  const TemporaryFolder folder;
  WeatherGraph named = region();
  named.data.name = "N123456";
  save_graph(named, {.hidden_grid = "O123456"}, folder / "graph.h5");
  const StoredGraph stored = load_graph(folder / "graph.h5");

  EXPECT_EQ(stored.graph.data.name, "N123456");
  EXPECT_EQ(stored.options.hidden_grid, "O123456");
}

TEST(GraphFile, HasTheSameBytesForTheSameGraph) {
  const TemporaryFolder folder;
  save_graph(region(), kOptions, folder / "a.h5");
  save_graph(build_graph(test::regional_grid(), kOptions), kOptions, folder / "b.h5");

  EXPECT_TRUE(test::read_file(folder / "a.h5") == test::read_file(folder / "b.h5"));
}

TEST(GraphFile, NamesTheDatasetOfAFlippedBit) {
  const TemporaryFolder folder;
  const auto file = folder / "graph.h5";
  save_graph(region(), kOptions, file);
  const std::string bytes = test::read_file(file);
  const std::pair<const char*, at::Tensor> arrays[] = {
      {"data/area", region().data.area},
      {"encoder/attributes", region().encoder.attributes},
      {"processor/source", region().processor.source.to(at::kInt)},
      {"decoder/destination", region().decoder.destination.to(at::kInt)}};
  for (const auto& [name, values] : arrays) {
    std::string damaged = bytes;
    damaged[place_of(values, bytes) + values.nbytes() / 2] ^= 1;
    test::write_file(file, damaged);
    const std::string message = message_of<DataError>([&] { load_graph(file); });
    EXPECT_NE(message.find(file.string() + ": " + name), std::string::npos) << message;
  }
}

TEST(GraphFile, NeverGivesAnotherGraphForAFlippedBit) {
  const TemporaryFolder folder;
  const auto file = folder / "graph.h5";
  save_graph(region(), kOptions, file);
  const std::string bytes = test::read_file(file);
  // Spread over the file, and every byte of its ends, where names and checksums are.
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < 200; ++i) places.push_back(i * bytes.size() / 200);
  for (std::size_t i = 0; i < 400; ++i) places.insert(places.end(), {i, bytes.size() - 1 - i});
  int found = 0;
  for (const std::size_t place : places) {
    std::string damaged = bytes;
    damaged[place] ^= static_cast<char>(1 << (place % 8));
    test::write_file(file, damaged);
    try {
      const StoredGraph stored = load_graph(file);
      EXPECT_TRUE(same(stored.graph, region()) && stored.options == kOptions) << place;
    } catch (const DataError&) {
      ++found;
    }
  }
  EXPECT_GT(found, 200);
}

TEST(GraphFile, RejectsWhatIsNoGraph) {
  const TemporaryFolder folder;
  const auto file = folder / "graph.h5";
  save_graph(region(), kOptions, file);
  const std::string bytes = test::read_file(file);

  EXPECT_THROW(load_graph(folder / "absent.h5"), DataError);
  test::write_file(file, "not HDF5");
  EXPECT_THROW(load_graph(file), DataError);
  test::write_file(file, bytes.substr(0, bytes.size() / 2));
  EXPECT_THROW(load_graph(file), DataError);
}

TEST(GraphFile, RejectsIndicesOfNoNodes) {
  const TemporaryFolder folder;
  WeatherGraph graph = region();
  graph.encoder.source = graph.encoder.source + 1617;
  save_graph(graph, kOptions, folder / "graph.h5");

  const std::string message = message_of<DataError>([&] { load_graph(folder / "graph.h5"); });
  EXPECT_NE(message.find("encoder/source"), std::string::npos) << message;
}

TEST(GraphCache, BuildsOnceAndLoadsThen) {
  const TemporaryFolder folder;
  const auto cache = folder / "made/for/it";
  const CachedGraph first = build_or_load_graph(test::regional_grid(), kOptions, cache);
  const CachedGraph second = build_or_load_graph(test::regional_grid(), kOptions, cache);

  EXPECT_FALSE(first.loaded);
  EXPECT_TRUE(second.loaded);
  EXPECT_EQ(first.warning + second.warning, "");
  EXPECT_EQ(first.file, second.file);
  EXPECT_TRUE(same(first.graph, region()));
  EXPECT_TRUE(same(second.graph, region()));
}

TEST(GraphCache, KeepsOtherOptionsAndGridsApart) {
  const TemporaryFolder folder;
  const auto file_of = [&](const Grid& grid, const GraphOptions& options) {
    return build_or_load_graph(grid, options, folder.path()).file;
  };
  Grid moved = test::regional_grid();
  moved.longitude = moved.longitude + 1e-6;
  const auto file = file_of(test::regional_grid(), kOptions);

  EXPECT_NE(file_of(moved, kOptions), file);
  EXPECT_NE(file_of(test::regional_grid(), {.hidden_level = 6, .max_neighbours = 10}), file);
}

TEST(GraphCache, TakesTheAreasOfTheCaller) {
  const TemporaryFolder folder;
  Grid grid = test::regional_grid();
  build_or_load_graph(grid, kOptions, folder.path());
  grid.area = at::full_like(grid.area, 1.0 / 1617);

  const CachedGraph cached = build_or_load_graph(grid, kOptions, folder.path());
  EXPECT_TRUE(cached.loaded);
  EXPECT_TRUE(at::equal(cached.graph.data.area, grid.area));
}

TEST(GraphCache, BuildsAnewWhatIsBrokenOrForeign) {
  const TemporaryFolder folder;
  const auto build = [&] {
    return build_or_load_graph(test::regional_grid(), kOptions, folder.path());
  };
  const auto file = build().file;
  const std::string bytes = test::read_file(file);
  save_graph(test::global_mesh(), kOptions, folder / "foreign.h5");
  for (const std::string& other :
       {std::string("nothing"), bytes.substr(0, 9999), test::read_file(folder / "foreign.h5")}) {
    test::write_file(file, other);
    const CachedGraph cached = build();
    EXPECT_FALSE(cached.loaded);
    EXPECT_NE(cached.warning.find(file.string()), std::string::npos) << cached.warning;
    EXPECT_EQ(cached.warning.find('\n'), std::string::npos);
    EXPECT_TRUE(same(cached.graph, region()));
    EXPECT_TRUE(test::read_file(file) == bytes) << "the file was not mended";
  }
}

TEST(GraphCache, DoesWithoutAFolderThatCannotBeMade) {
  const TemporaryFolder folder;
  test::write_file(folder / "taken", "by a file");
  const CachedGraph cached = build_or_load_graph(test::regional_grid(), kOptions, folder / "taken");

  EXPECT_TRUE(same(cached.graph, region()));
  EXPECT_FALSE(cached.loaded);
  EXPECT_NE(cached.warning, "");
}

TEST(GraphCache, ServesRanksThatBuildAtOnce) {
  const TemporaryFolder folder;
  std::vector<CachedGraph> results(4);
  std::vector<std::thread> ranks;
  for (auto& result : results) {
    ranks.emplace_back([&folder, &result] {
      for (int turn = 0; turn < 5; ++turn) {
        result = build_or_load_graph(test::regional_grid(), kOptions, folder.path());
        if (turn < 3) std::filesystem::remove(result.file);
      }
    });
  }
  for (auto& rank : ranks) rank.join();

  for (const auto& result : results) EXPECT_TRUE(same(result.graph, region()));
  EXPECT_TRUE(same(load_graph(results[0].file).graph, region()));
  const std::filesystem::directory_iterator files(folder.path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "temporary files were left";
}

}  // namespace
}  // namespace isobar::graph_file_test
