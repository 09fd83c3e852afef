// SPDX-License-Identifier: Apache-2.0
#include <isobar/data/loader.hpp>

#include <isobar/core/error.hpp>
#include <isobar/core/stopwatch.hpp>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace isobar {

struct Loader::Impl {
  BatchSource source;
  Batches batches;
  std::size_t prefetch;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Batch> ready;
  std::exception_ptr failure;
  bool done = false;  // the thread makes no further batch
  bool stop = false;
  double stalled_s = 0;
  std::thread thread;  // last: it uses what is above

  Impl(BatchSource batch_source, Batches sample_batches, const LoaderOptions& options);
  ~Impl();
  void run();
  bool wait_for_room();
};

Loader::Impl::Impl(BatchSource batch_source, Batches sample_batches, const LoaderOptions& options)
    : source(std::move(batch_source)),
      batches(std::move(sample_batches)),
      prefetch(static_cast<std::size_t>(options.prefetch)),
      thread([this] { run(); }) {}

Loader::Impl::~Impl() {
  {
    const std::scoped_lock lock(mutex);
    stop = true;
  }
  changed.notify_all();
  thread.join();
}

/// False where the loader is being destroyed.
bool Loader::Impl::wait_for_room() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [this] { return stop || ready.size() < prefetch; });
  return !stop;
}

void Loader::Impl::run() {
  std::exception_ptr caught;
  try {
    for (const std::vector<int64_t>& indices : batches) {
      if (!wait_for_room()) break;
      Batch batch = source(indices);
      const std::scoped_lock lock(mutex);
      ready.push_back(std::move(batch));
      changed.notify_all();
    }
  } catch (...) {
    caught = std::current_exception();
  }
  const std::scoped_lock lock(mutex);
  failure = caught;
  done = true;
  changed.notify_all();
}

Loader::Loader(std::shared_ptr<const SampleSet> samples, Batches batches, LoaderOptions options)
    : Loader([samples = std::move(samples)](
                 const std::vector<int64_t>& indices) { return samples->get(indices); },
             std::move(batches), options) {}

Loader::Loader(BatchSource source, Batches batches, LoaderOptions options) {
  ISOBAR_CHECK(options.prefetch > 0, "Loader: prefetch has to be positive, got ", options.prefetch);
  impl_ = std::make_unique<Impl>(std::move(source), std::move(batches), options);
}

Loader::~Loader() = default;

std::optional<Batch> Loader::next() {
  std::unique_lock lock(impl_->mutex);
  const Stopwatch wait;
  impl_->changed.wait(lock, [this] { return impl_->done || !impl_->ready.empty(); });
  impl_->stalled_s += wait.elapsed_s();
  if (impl_->ready.empty()) {
    if (impl_->failure) std::rethrow_exception(impl_->failure);
    return std::nullopt;
  }
  Batch batch = std::move(impl_->ready.front());
  impl_->ready.pop_front();
  impl_->changed.notify_all();
  return batch;
}

double Loader::stalled() const noexcept { return impl_->stalled_s; }

}  // namespace isobar
