// SPDX-License-Identifier: Apache-2.0
// Trains the quick start's graph network for a few steps, as `isobar train` would, and uses what
// comes of it: the scores on the test period.
//
//   build/release/bin/05_train_a_weather_network                       from the repository's root
//   mpirun -n 2 build/release/bin/05_train_a_weather_network my.yaml train.steps=1000
//
// Name, steps and refit are set below, over those of the file: give them after it to choose. The
// run's folder is runs/from_cpp. The last line is "t2m at 6 h: error K, persistence K".
#include <isobar/launch/environment.hpp>
#include <isobar/weather/training_run.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

int train(const std::string& path, const std::vector<std::string>& overrides) {
  // Reads the experiment, and starts the ranks of mpirun or srun over the backend that it names.
  const auto [experiment, world] = isobar::start_experiment(path, overrides);
  const auto result = isobar::TrainingRun(*world, experiment).run();
  if (world->rank() != 0) return 0;
  std::printf("%lld steps in %.1f s, best at step %lld\n",
              static_cast<long long>(result.summary.steps), result.summary.seconds,
              static_cast<long long>(result.summary.best_step));
  for (const auto& lead : result.scores) {
    for (const auto& score : lead.variables) {
      std::printf("%s at %lld h: error %.3f, persistence %.3f\n", score.variable.c_str(),
                  static_cast<long long>(lead.lead_hours), score.rmse, score.persistence);
    }
  }
  return 0;
}

int main(int argc, char** argv) try {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const auto path = words.empty() ? "examples/experiments/quickstart.yaml" : words.front();
  std::vector<std::string> overrides{"run.name=from_cpp", "train.steps=20", "train.refit=false"};
  for (size_t i = 1; i < words.size(); ++i) overrides.push_back(words[i]);
  return train(path, overrides);
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", isobar::error_line(error).c_str());
  std::_Exit(1);  // without MPI_Finalize, which would wait for ranks that wait for this one
}
