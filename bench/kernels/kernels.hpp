// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace isobar::bench {

/// A kernel with its data, and what it ought to make of them.
struct Kernel {
  double bytes = 0;            ///< of all that a call has to read or write, each value once
  double operations = 0;       ///< of the plain loop; a root, an exponential, an erf is one
  std::function<void()> call;  ///< may be called again and again
  /// After the first call: the largest deviation from the plain loop.
  std::function<double()> error;
  double tolerance = 0;
};

/// What the machine can do, on as many threads as the kernels have.
struct Roofs {
  double cache_bytes_s = 0;   ///< STREAM's triad on arrays of the rows in the cache
  double memory_bytes_s = 0;  ///< and on those beyond it
  double operations_s = 0;    ///< a product of float32 matrices
};

/// Where a row's data are.
enum class Place { cache, memory };
const char* name_of(Place place);

/// The rows of the program. Every row makes its data when its turn comes, calls its kernel once and
/// compares that with the plain loop; only then is it timed.
class Kernels {
 public:
  /// `quick` leaves out what is beyond the cache.
  enum class Extent { all, quick };
  Kernels(const Roofs& roofs, Extent extent) : roofs_(roofs), extent_(extent) {}
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;

  /// Adds a row "name/place".
  void add(const std::string& name, Place place, const std::function<Kernel()>& make);

  /// A row for each place, and of each for float32 and bfloat16, "name/type/place".
  void add_typed(const std::string& name,
                 const std::function<Kernel(c10::ScalarType type, Place place)>& make);

  /// Rows that differed from the plain loop.
  int wrong() const noexcept { return wrong_; }

 private:
  Roofs roofs_;
  Extent extent_;
  int wrong_ = 0;
  std::string current_;  ///< the row whose data are there
  Kernel kernel_;
  double error_ = 0;
};

/// Rows of a latent state, [rows_of(place), kWidth].
constexpr int64_t kWidth = 128;
constexpr int64_t rows_of(Place place) { return place == Place::cache ? 512 : 65536; }

/// Values in [-1, 1), a function of their number and `seed`, of this type and shape.
at::Tensor values(at::IntArrayRef sizes, c10::ScalarType type, uint64_t seed);
/// Whole numbers from 0 up to below `end`, drawn likewise.
at::Tensor indices(int64_t count, int64_t end, uint64_t seed);
at::Tensor zeros(at::IntArrayRef sizes, c10::ScalarType type);

/// All values as doubles, for plain loops.
std::vector<double> plain(const at::Tensor& tensor);
std::vector<int64_t> plain_indices(const at::Tensor& tensor);

/// a · b by the plain loop.
std::vector<double> plain_product(const at::Tensor& a, const at::Tensor& b);

/// The largest |got - wanted| / max(1, |wanted|); infinite where one is not a number, or where
/// their counts differ.
double deviation(const at::Tensor& got, const std::vector<double>& wanted);

/// Of sums of values of this type that are rounded to it once.
double tolerance_of(c10::ScalarType type);

/// A clock for spans. On one thread it counts the time that the thread ran, so that what else
/// runs on the machine is not in figures; on several it is the wall's.
double now_s();

Roofs measure_roofs(Kernels::Extent extent);
/// As the system names it, and the instructions that LibTorch takes of it.
std::string processor();

// The subjects.
void add_block_int8(Kernels& kernels);
void add_gather_gelu(Kernels& kernels);
void add_layer_norm(Kernels& kernels);
void add_low_rank(Kernels& kernels);
void add_products(Kernels& kernels);
void add_reduce(Kernels& kernels);
void add_segments(Kernels& kernels);
void add_unpacking(Kernels& kernels);

}  // namespace isobar::bench
