#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does data_test notice data that are read wrongly? Makes one mistake at a time, builds, and runs the test.

    tests/data/mutations.py build/release [NAME ...] [--together N]

The sources are changed in place and put back; what is not committed there is refused. Exit code 0: every mistake was
noticed. With --together 20 all take a few builds.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mutation import Mistake, main  # noqa: E402

SAMPLES, SAMPLER, SCAN, MOMENTS, BINS = (
    f"lib/data/{name}.cpp" for name in ("samples", "sampler", "field_scan", "moments", "value_bins"))
NORMALIZER, FORCINGS, CACHE, LOADER, CADENCE = (
    f"lib/data/{name}.cpp" for name in ("normalizer", "forcings", "block_cache", "loader", "cadence"))
TIME, DECODING, COORDINATES, USE = (f"lib/data/{name}.cpp" for name in ("cf_time", "decoding", "coordinates", "sample_use"))
UNITS, FILE, CHECK, SUMMARY = (f"lib/data/{name}.cpp" for name in ("units", "data_file", "field_check", "file_summary"))

MISTAKES = [
    # Samples.
    Mistake("take samples without their references", SAMPLES, " && all(options_.reference_hours, present);", ";",
            "Samples.NeedAllTheirHoursInTheFile"),
    Mistake("take targets behind the period", SAMPLES, "all(period_hours(), within) && ", "",
            "Samples.NeedAllTargetsWithinThePeriod"),
    Mistake("train on what is tested", SAMPLES, '  check_disjoint(split.train, "train", split.test, "test");\n', "",
            "Samples.RefuseASplitThatSharesTargets"),
    Mistake("validate on what is tested", SAMPLES, '  check_disjoint(split.validation, "validation", split.test, "test");\n', "",
            "Samples.RefuseASplitThatSharesTargets"),
    Mistake("leave samples as they are in the file", SAMPLES, "  normalizer_.normalize_(result);\n", "",
            "Samples.HoldTheFieldsOfTheirHours"),
    Mistake("show forcings of the analysis", SAMPLES, "times[b] + hours[h] * kHourSeconds, dataset_->calendar()));",
            "times[b], dataset_->calendar()));", "Samples.HoldTheFieldsOfTheirHours"),
    Mistake("read targets that nobody asked for", SAMPLES, "target_hours(all.begin(), all.begin() + targets);",
            "target_hours(all.begin(), all.end());", "Samples.ReadNoHourOfATargetThatIsNotAskedFor"),
    Mistake("count whole samples beyond the period", USE, "period.end - *last * kHourSeconds;", "period.end;",
            "Samples.AreCountedBesideThoseOfWholeData"),
    # Which samples a rank takes.
    Mistake("shuffle unevenly", SAMPLER, "draw_below(static_cast<uint64_t>(i) + 1, state)", "draw_below(static_cast<uint64_t>(i), state)",
            "ShuffledIndices.PutEveryIndexEverywhereEquallyOften"),
    Mistake("shuffle every epoch alike", SAMPLER, "+ epoch * kSplitmix64Step);", ");", "Sampler.RepeatsAnEpochAndShufflesTheNext"),
    Mistake("give ranks the same samples", SAMPLER, "(step * parts + part) * options_.batch;", "step * parts * options_.batch;",
            "Sampler.GivesNoSampleTwiceInAnEpochAndLeavesOutTheIncompleteStep"),
    Mistake("take a step of more samples than there are", SAMPLER, "ISOBAR_CHECK(options_.batch <= samples / parts,",
            "ISOBAR_CHECK(options_.batch <= samples,", "Sampler.RefusesAStepOfMoreSamplesThanThereAre"),
    Mistake("score a rank's last samples twice", SAMPLER, "const int64_t end = samples * (part + 1) / parts;",
            "const int64_t end = samples * (part + 1) / parts + (part + 1 < parts ? 1 : 0);",
            "EverySample.CoversAllSamplesOnceOverTheRanks"),
    # Statistics in one pass.
    Mistake("forget that means lie apart", MOMENTS, " + apart * apart * count * part.count / total;", ";",
            "Scans.AgreeWithPlainLoopsOverValuesAndChanges"),
    Mistake("divide by one value fewer", MOMENTS, "std::sqrt(squares / count)", "std::sqrt(squares / (count - 1))",
            "Scans.AgreeWithPlainLoopsOverValuesAndChanges"),
    Mistake("let blocks span periods", SCAN, "if (blocks.empty() || full || piece(i) != piece(i - 1))",
            "if (blocks.empty() || full)", "Scans.AreOfThePeriodsThatTheyWereMadeFor"),
    Mistake("make blocks after ranks", SCAN, "blocks * rank / size; b < blocks * (rank + 1) / size;",
            "blocks * rank / size; b < blocks * (rank + 1) / size - (size > 1 && rank == 0 ? 1 : 0);",
            "Scans.GiveTheSameBitsHoweverRanksShareThem"),
    Mistake("miss what is missing", SCAN, "    if (values[v].count < points) note(position, v, kMissing);\n", "",
            "Scans.FindMissingValues"),
    Mistake("need fields before a period", SCAN, "    } catch (const DataError&) {\n      return {};\n    }", "    } catch (const DataError&) {\n      throw;\n    }",
            "Scans.NeedNoFieldFromBeforeAPeriod"),
    Mistake("count missing values as none", SCAN, "result.missing = fields * dataset->point_latitudes().size(0) - result.values.count;",
            "result.missing = 0;", "Scans.AgreeWithPlainLoopsOverValuesAndChanges"),
    Mistake("call weather far outside", BINS, "kFar = 10;", "kFar = 0.1;", "Scans.TakeWeatherForWeather"),
    Mistake("order negative values upwards", BINS, "bits >> 31U != 0 ? ~bits :", "bits >> 31U != 0 ? bits & 0x7FFFFFFFU :",
            "Scans.NameValuesFarOutsideAllOthers"),
    # Scales.
    Mistake("centre min_max at the mean", NORMALIZER, "{1 / (s.maximum - s.minimum), -s.minimum /", "{1 / (s.maximum - s.minimum), -s.mean /",
            "Normalizer.MapsByEachMethod"),
    Mistake("scale what is constant", NORMALIZER,
            "if (std::isfinite(static_cast<float>(line.mul)) && std::isfinite(static_cast<float>(line.add)))", "if (true)",
            "Normalizer.NamesAConstantVariable"),
    # Sun and time.
    Mistake("let the night be negative", FORCINGS, "return cosine.clamp_min(0);", "return cosine;", "Insolation.IsNothingInThePolarNight"),
    Mistake("let the sun rise in the west", FORCINGS, "inputs.longitude + (inputs.day_angle +", "-inputs.longitude + (inputs.day_angle +",
            "Insolation.IsOneBelowTheSun"),
    Mistake("have a 29 February in every calendar", TIME, "kDaysBefore[date.month - 1] + date.day - 1;\n    case Calendar::day_360:",
            "kDaysBefore[date.month - 1] + date.day - (date.month > 2 ? 0 : 1);\n    case Calendar::day_360:",
            "CfTime.GoesThroughEveryDayOfACalendarAndBack"),
    Mistake("take dates that do not exist", TIME, "if (!plausible || back.month != date.month || back.day != date.day) {",
            "if (!plausible) {", "CfTime.NamesWhatItCannotRead"),
    Mistake("move times that are exact", CADENCE, "if (share_within(times, step, middle, 0) >= kShareOnSteps) return middle;", "",
            "StoredTimes.ThatAreRegularStayAsTheyAre"),
    Mistake("move times that are far off", CADENCE, "    if (std::abs(off) > result.tolerance) {\n", "    if (false) {\n",
            "StoredTimes.FarOffAreNamedAndStay"),
    # Memory and threads.
    Mistake("keep more than the memory", CACHE, "while (!order_.empty() && bytes_ + bytes_of(block) > budget_) {",
            "while (false && !order_.empty()) {", "KeptBlocks.HoldNoMoreThanTheirBudget"),
    Mistake("drop what was asked for last", CACHE, "    order_.splice(order_.end(), order_, found->second.asked);\n", "",
            "KeptBlocks.DropWhatWasAskedForLongestAgo"),
    Mistake("prepare one batch too many", LOADER, "ready.size() < prefetch; });", "ready.size() <= prefetch; });",
            "Loader.PreparesAsManyBatchesAheadAsAsked"),
    Mistake("end a loader without its error", LOADER, "    if (impl_->failure) std::rethrow_exception(impl_->failure);\n", "",
            "Loader.ThrowsWhatThePreparationThrewAfterTheBatchesBeforeIt"),
    # Values of a file.
    Mistake("take a default fill for a value", DECODING, 'if (type == "int16") return {-32767};', "",
            "Decoding.MasksNetcdfsDefaultFillWhereTheFileGivesNone"),
    Mistake("keep signs of _Unsigned", DECODING, '  if (!other || !is_integer(variable.type)) return {};\n', "  return {};\n",
            "Decoding.ReadsBytesMarkedUnsignedAsSuch"),
    Mistake("leave limits out", DECODING, "  limits.highest = std::min(limits.highest, highest);\n", "",
            "Decoding.MasksWhatLiesOutsideTheValidLimits"),
    # What a stranger tries.
    Mistake("want all targets in the period", SAMPLES,
            "return all(period_hours(), within) &&",
            "return all(options_.target_hours, within) &&",
            "Samples.BelongToThePeriodOfTheHoursThatCount"),
    Mistake("name no hour that is missing", SAMPLES,
            "if (kept.empty()) {",
            "if (false) {",
            "Samples.RefuseWhatMakesNoSample"),
    Mistake("say nothing of axes that changed places", COORDINATES,
            "  if (signs.empty()) return;\n",
            "  return;\n",
            "Axes.ThatSeemToHaveChangedPlacesAreTold"),
    Mistake("let units decide before a standard name", COORDINATES,
            "const bool is_other = standard_name(name) == other.name;",
            "const bool is_other = false;",
            "Axes.ThatSeemToHaveChangedPlacesAreTold"),
    Mistake("call a small deviation none", NORMALIZER,
            "if (s.minimum < s.maximum) {",
            "if (false) {",
            "Normalizer.SaysWhatFloat32MakesOfAVariable"),
    Mistake("take fields without a value for some", SCAN,
            "    if (values[v].count == 0) note(position, v, kAbsent);\n",
            "",
            "Scans.KnowWhereAVariableHasAnyValue"),
    Mistake("know one spelling of a unit", UNITS,
            "return a == b || (!a.empty() &&",
            "return a == b || (false &&",
            "Units.AreTheSameInTheirSpellings"),
    Mistake("know no plural of a unit", UNITS,
            '{"seconds", "s"}', '{"seconds", "seconds"}',
            "Units.AreTheSameInTheirSpellings"),
    Mistake("take a quotient for a product", UNITS,
            "      sign = -1;\n",
            "",
            "Units.AreTheSameInTheirSpellings"),
    # What a file is found to hold.
    Mistake("forecast what never changes", FILE, "    if (change) {", "    if (change || true) {",
            "DataFile.SortsVariablesByWhetherTheyChange"),
    Mistake("miss what is missing later", FILE, "file.has_missing = file.has_missing || fields.isnan().any().item<bool>();", "",
            "DataFile.SeesValuesThatAreMissingLater"),
    Mistake("say a word on the grid with every variable", CHECK, "if (!is_known) findings_", "findings_",
            "FieldCheck.SaysWhatIsOddAndWhen"),
    Mistake("take any choice of a level", CHECK, "ISOBAR_CHECK(known.count(choice.first) > 0,", "ISOBAR_CHECK(true,",
            "FieldCheck.RefusesAChoiceThatNoVariableHas"),
    Mistake("show a time as a number", SUMMARY, 'if (units.find(" since ") != std::string::npos &&', "if (false &&",
            "FileSummary.ShowsAMomentForANumberOfHours"),
]

if __name__ == "__main__":
    sys.exit(main(__doc__, MISTAKES, "data_test"))
