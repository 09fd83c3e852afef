#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does train_test notice training or evaluation that is wrong? Makes one mistake at a time, builds, and runs the test.

    tests/train/mutations.py build/release [NAME ...] [--together N]

The sources are changed in place and put back; what is not committed there is refused. Exit code 0: every mistake was
noticed. With --together 20 all take a few builds.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mutation import Mistake, main  # noqa: E402

TRAINER, REPORT, LOCK, SCALER, SCAN = (
    f"lib/train/{name}.cpp" for name in ("trainer", "trainer_report", "folder_lock", "grad_scaler", "shared_scan"))
SCHEDULE, SCORES, MEAN, GROUPS, SLOT = (
    f"lib/train/{name}.cpp"
    for name in ("schedule", "forecast_scores", "climatology", "climatology_groups", "climatology_slot"))
SCORING, SPECTRA, WEIGHTS, OPTIMIZER, CHECKPOINT = (
    f"lib/train/{name}.cpp" for name in ("scoring", "forecast_spectra", "weights", "optimizer", "checkpoint"))
TIMER, PROFILER, ENERGY = "lib/train/step_timer.hpp", "lib/train/step_profiler.cpp", "lib/train/energy_meter.cpp"
SHARDED, ROWS, FOLDER = (f"lib/train/{name}.cpp" for name in ("sharded_part", "sharded_rows", "run_folder"))

MISTAKES = [
    # Steps.
    Mistake("weigh accumulated batches as one", TRAINER, "task.loss(batch) / static_cast<double>(options.accumulate);",
            "task.loss(batch) / 1.0;", "Trainer.GivesTheSameWeightsWithAccumulation"),
    Mistake("average weights after a step that was left out", TRAINER, "if (average && !left_out)", "if (average)",
            "TrainerScaling.LeavesOutStepsThatOverflow"),
    Mistake("let clip_norm be negative", TRAINER, "options.validate_every >= 0 && options.clip_norm >= 0 &&",
            "options.validate_every >= 0 &&", "Trainer.RefusesOptionsThatMakeNoSense"),
    Mistake("compress scaled gradients", TRAINER, "      !options.loss_scaling || !options.ddp.reducer.compressor,", "      true,",
            "TrainerScaling.RefusesToCompressScaledGradients"),
    Mistake("warm up from nothing", SCHEDULE, "return peak * static_cast<double>(step + 1) /",
            "return peak * static_cast<double>(step) /", "LearningRateSchedule.WarmsUpInEqualStepsToThePeak"),
    Mistake("warm up without end", SCHEDULE, "warmup_steps >= 0 && warmup_steps <= total_steps,", "warmup_steps >= 0,",
            "LearningRateSchedule.RefusesWhatMakesNoSense"),
    Mistake("grow forecasts a step early", SCHEDULE, "start + step / every)", "start + (step + 1) / every)",
            "RolloutSchedule.GrowsByOneStepUpToItsMaximum"),
    Mistake("overflow on one rank alone", SCALER, "  world.allreduce(overflow, ReduceOp::maximum).wait();\n", "",
            "Optimizers/GradScalers.LeaveEverythingAsItIsWhereARanksGradientOverflows/*"),
    Mistake("grow the scale after every good step", SCALER, "if (++good_steps_ < options_.growth_interval) return;",
            "++good_steps_;", "GradScaler.HalvesAtAnOverflowAndDoublesAfterGoodSteps"),
    Mistake("scale gradients beyond float32", SCALER, "if (std::isfinite(grown)) scale_ *=", "if (grown > 0) scale_ *=",
            "GradScaler.StaysWithinFloat32"),
    Mistake("scale without a lower end", SCALER, "    if (scale_ >= options_.minimum) return;\n", "    return;\n",
            "GradScaler.GivesUpWhereNoScaleHelps"),
    Mistake("average at once", WEIGHTS, "std::min(decay_, (1 + n) / (10 + n))", "decay_", "WeightAverage.FollowsItsFormula"),
    Mistake("mix up moments", OPTIMIZER, "adam->exp_avg_sq(next->moments[1].second);",
            "adam->exp_avg_sq(next->moments[0].second);", "Methods/OptimizerMethods.HaveOneStateFusedOrNot/*"),
    # What is told of steps.
    Mistake("tell the seconds of all steps since the last line", REPORT, '{"step_s", seconds / steps}',
            '{"step_s", seconds}', "Trainer.GivesTimesOfAStepThatAddUpToTheRuns"),
    Mistake("tell the parts of all steps since the last line", REPORT, "(seconds[part] - logged[part]) / steps;",
            "seconds[part] - logged[part];", "Trainer.GivesTimesOfAStepThatAddUpToTheRuns"),
    Mistake("tell all time since the start", REPORT, "  logged = total;\n", "",
            "TrainerChecks.TellTheTimeOfTheStepsSinceTheLineBefore"),
    Mistake("give a wait to the part that it falls in", TIMER, "clock_.restart() - waited_s;", "clock_.restart();",
            "StepProfile.CountsAWaitInAnyPartAsExposedCommunication"),
    Mistake("call waits for data computing", TRAINER, "    lap(StepPart::data_wait);\n", "",
            "StepProfile.ShowsASlowLoaderOnTheRankThatHasIt"),
    Mistake("call the forward pass a backward one", TRAINER, "    lap(StepPart::forward);\n", "",
            "StepProfile.GivesTimeToThePartThatTookIt"),
    Mistake("profile the warm-up", PROFILER, "before_ = timer_.total();", "before_ = {};",
            "StepProfile.ForgetsTheTimeOfTheWarmUp"),
    Mistake("count the collectives of the warm-up", PROFILER, "    counts_before_ = census_.counts();\n", "",
            "StepProfile.CountsWhatAStepSendsByWhoAsks"),
    Mistake("let a new asker pass", PROFILER, "allowed == budget.end() ? 0 : allowed->second;",
            "allowed == budget.end() ? made : allowed->second;",
            "StepProfile.EndsAllRanksWhereOneOfThemAsksForSomethingNew"),
    Mistake("let collectives pass beyond their budget", PROFILER, "if (made <= most) continue;", "if (made <= most + 1) continue;",
            "StepProfile.EndsAllRanksWhereAStepAsksForMoreThanItsBudget"),
    Mistake("count the FLOPs of one pass", PROFILER, " * static_cast<double>(options_.accumulate) * length", " * length",
            "StepProfile.JudgesByAPeakThatItIsTold"),
    Mistake("count memory twice", ENERGY, 'name == "dram"', 'name == "dram" || name == "core"',
            "EnergyMeterTest.AddsUpPackagesAndMemoryAlsoAfterTheirCountersBeganAgain"),
    Mistake("lose energy where a counter begins again", ENERGY, "*now + counter.range - counter.last", "*now",
            "EnergyMeterTest.AddsUpPackagesAndMemoryAlsoAfterTheirCountersBeganAgain"),
    Mistake("mean a loss over one rank's samples", REPORT, "  grid.data().allreduce(mean).wait();\n", "",
            "Trainer.TellsTheMeanLossOfAllRanks"),
    # Checkpoints and the best of them.
    Mistake("save what is no number", REPORT, "  check_losses();\n  check_weights();\n", "  check_weights();\n",
            "TrainerChecks.SeeALossThatIsNoNumberBeforeAnythingIsSaved"),
    Mistake("save weights that are no numbers", REPORT, "  check_losses();\n  check_weights();\n", "  check_losses();\n",
            "TrainerChecks.SaveNoWeightThatIsNoNumber"),
    Mistake("take the worst checkpoint for the best", REPORT, "score >= summary.best_ratio", "score <= summary.best_ratio",
            "TrainerChecks.KeepNoMoreCheckpointsThanAskedForBesideTheBest"),
    Mistake("take a score that is no number", REPORT, "const bool finite = std::isfinite(score);",
            "const bool finite = true;", "TrainerChecks.NeverCallAScoreThatIsNotFiniteTheBest"),
    Mistake("score the weights and not their average", REPORT, "  if (average) average->swap();\n  const auto scores",
            "  const auto scores", "Trainer.SavesWhatItScored"),
    Mistake("remove the best checkpoint", CHECKPOINT, " || it->first == options.protected_step", "",
            "CheckpointTest.KeepsTheNewestAndTheProtectedOne"),
    Mistake("believe a damaged file", CHECKPOINT, "  verify_part(path, part);\n  StateDict", "  StateDict",
            "CheckpointTest.FindsADamagedByteAnywhere"),
    Mistake("read a version from the future", CHECKPOINT, "if (part.version > wanted.version())", "if (false)",
            "CheckpointTest.NamesAPartThatIsMissingOrTooNew"),
    Mistake("load a part before all are known to be sound", CHECKPOINT,
            "    states.push_back(read_state(path, find_part(path, manifest, *part), *part));\n",
            "    states.push_back(read_state(path, find_part(path, manifest, *part), *part));\n"
            "    load_part(path, *const_cast<Stateful*>(part), states.back(), 1);\n",
            "CheckpointTest.ChangesNoPartWhenAnotherCannotBeLoaded"),
    Mistake("take rows in another order", SHARDED, "saved.index_select(0, sharded.rows.to(saved.device()))",
            "saved.index_select(0, sharded.rows.flip(0).to(saved.device()))", "ShardedPart.IsLoadedOnAnyNumberOfRanks"),
    Mistake("leave rows without an owner", ROWS, "part.ne(1).nonzero()", "part.gt(1).nonzero()",
            "ShardedRows.AreComplainedOfWhereTheyAreNotEachRowOnce"),
    # Run folders.
    Mistake("take the folder of a run that goes on", LOCK, "  if (!old.lock()) {", "  if (!old.lock() && false) {",
            "Trainer.RefusesAFolderWhoseRunGoesOn"),
    Mistake("leave run.lock in a folder moved aside", LOCK, "  fs::remove(aside / kLockName, none);", "  //",
            "Trainer.RefusesAFolderWhoseRunGoesOn"),
    Mistake("leave run.lock behind", LOCK, "if (is_file(descriptor_, path_ / kLockName)) fs::remove(", "if (false) fs::remove(",
            "Trainer.RefusesAFolderWhoseRunGoesOn"),
    Mistake("keep a folder to oneself", LOCK, "::mkdir(made.c_str(), 0777)", "::mkdir(made.c_str(), 0700)",
            "Trainer.GivesItsFolderTheRightsOfAnyOther"),
    Mistake("leave an earlier run aside", FOLDER, "if (!lock_->aside().empty()) std::filesystem::rename(",
            "if (false) std::filesystem::rename(", "Trainer.BringsBackAnEarlierRunWhenTheNextMakesNoStep"),
    # Scores.
    Mistake("count a persistence that is missing", SCORES, "known.logical_and(other.isnan().logical_not())", "known",
            "ForecastScores.LeavesOutWhatIsMissing"),
    Mistake("count samples that are not scored", SCORES, ".isnan().logical_not().logical_and(of_scored);",
            ".isnan().logical_not();", "ForecastScores.CountsEachSampleAtTheLeadTimesItIsSaidToBeScoredAt"),
    Mistake("correlate where the climatology is missing", SCORES, "truth.isnan().logical_or(mean.isnan())", "truth.isnan()",
            "AnomalyCorrelation.IsItsDefinitionOnAnyNumberOfRanks"),
    Mistake("correlate anomalies less their mean", SCORES, "  const auto f = anomaly(forecast), o = anomaly(truth);",
            "  const auto f = anomaly(forecast) - (anomaly(forecast) * area).sum(2, true),\n"
            "             o = anomaly(truth) - (anomaly(truth) * area).sum(2, true);", "AnomalyCorrelation.IsNotCentred"),
    Mistake("know a climatology that one rank has not", SCORES, "  climatology_known_ &= climatology.defined();\n", "",
            "AnomalyCorrelation.IsUnknownOnEveryRankWhereOneHasNoClimatology"),
    Mistake("transform samples that are not scored", SPECTRA,
            "      if (scored.defined() && !scored[b][s].item<bool>()) continue;\n", "",
            "Climatologies.GiveTheSameScoresInPartsAsWhole"),
    Mistake("compare with the reference of the first lead time", SCORING,
            "batch.reference.narrow(1, batch.reference.size(1) - 1, 1)", "batch.reference.narrow(1, 0, 1)", "Scoring.TakesTheLastLeadTimeAndItsReference"),
    # Climatology.
    Mistake("average over another window", SLOT, "kHalfWindow = 30;", "kHalfWindow = 31;",
            "Climatologies.LookAtDaysOfTheYearAroundWhereTheyHaveAYear"),
    Mistake("end the window with the year", SLOT, "std::min(apart, days() - apart)", "apart",
            "Climatologies.LookAtDaysOfTheYearAroundWhereTheyHaveAYear"),
    Mistake("mix times of day", SLOT, "  if (slot.second != from.second) return 0;\n", "",
            "Climatologies.AreTheMeanByTimeOfDayOnAnyNumberOfRanks"),
    Mistake("divide the year too finely", GROUPS, "kLeastDays = 61;", "kLeastDays = 50;",
            "Climatologies.ReadAFieldTwiceAtMostWhateverTheLeadTimesAndTheMemory"),
    Mistake("divide years of 366 days in any calendar", GROUPS, "slot.day * blocks / slots.days()", "slot.day * blocks / 400",
            "Climatologies.ReadAFieldTwiceAtMostWhateverTheLeadTimesAndTheMemory"),
    Mistake("hold all times of day whatever the memory", GROUPS, "std::clamp<int64_t>(most / least, 1, hours)", "hours",
            "Climatologies.AreDividedByTimeOfDayAndDayWhereMemoryIsShort"),
    Mistake("take one time of day at a time", GROUPS, "std::clamp<int64_t>(most / least, 1, hours)", "int64_t{1}",
            "Climatologies.ReadAFieldTwiceAtMostWhateverTheLeadTimesAndTheMemory"),
    Mistake("score a sample in one group only", GROUPS,
            "    auto& group = groups[part_of.at(slots.of(time))];\n",
            "    auto& group = groups[part_of.at(slots.of(scored[s].set->times()[i] + kHourSeconds * scored[s].lead_hours[0]))];\n",
            "Climatologies.ReadAFieldTwiceAtMostWhateverTheLeadTimesAndTheMemory"),
    Mistake("divide by the points of one rank", SCORING, "    source.points = most_points(*scored.at(0).set, grid.model());\n", "",
            "Climatologies.AreDividedAlikeOnRanksOfAModelThatDifferInTheirPoints"),
    Mistake("read the whole period for every group", MEAN,
            "    if (std::any_of(asked.begin(), asked.end(), uses)) times", "    times",
            "Climatologies.GiveTheSameScoresInPartsAsWhole"),
    Mistake("give a climatology for what is not scored", MEAN, "      if (!wanted[b][s].item<bool>()) continue;\n", "",
            "Climatologies.SayHowFarTheyAreAndKnowNoOtherTime"),
    # The pass over the data, shared over ranks.
    Mistake("keep sums of the pass to oneself", SCAN, "  combine(scan.sums(), ReduceOp::sum);\n", "",
            "SharedScan.TellsEveryRankTheSameAsOneAlone"),
    Mistake("keep minima of the pass to oneself", SCAN, "  combine(scan.minima(), ReduceOp::minimum);\n", "",
            "SharedScan.TellsEveryRankWhichValuesAreOutliers"),
    Mistake("take minima for maxima", SCAN, "scan.maxima(), ReduceOp::maximum", "scan.maxima(), ReduceOp::minimum",
            "SharedScan.TellsEveryRankWhichValuesAreOutliers"),
    # What a line of metrics is of.
    Mistake("show the norm of a step before", TRAINER,
            " || step + 1 == options.steps;",
            ";",
            "TrainerMetrics.TellTheGradientNormOfTheStepThatTheyAreOf"),
    Mistake("show the norm of a step that was left out", TRAINER,
            "norm = left_out ? kUnknown : clip();",
            "if (!left_out) norm = clip();",
            "TrainerScaling.LeavesOutStepsThatOverflow"),
]

if __name__ == "__main__":
    sys.exit(main(__doc__, MISTAKES, "train_test"))
