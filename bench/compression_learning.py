#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains an experiment with compressed gradients and without, from several seeds, and compares what was learnt.

    bench/compression_learning.py examples/experiments/quickstart.yaml --methods none,acp_sgd --seeds 0,1,2 \\
        --ranks 2 --rank 4 [key=value ...]

For each seed it runs `isobar train` without compression first, and then with each method; a ratio divides a method's
RMSE by the uncompressed one of the same seed (of several variables and lead times: the geometric mean of their ratios).
key=value sets a key of the experiment for all runs. Unless set so, compression starts after a tenth of the steps and
train.refit is off, so that all runs learn from the same number of steps. A run that compressed fewer than 90 % of its
steps, by its own record, ends the comparison. The exit code is 0 only if, for every method, the mean of the ratios over
the seeds exceeds 1 by no more than --within.
"""
import argparse
import json
import math
import shlex
import socket
import statistics
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from comparison import Failure, run_limited, write_report

LEAST_COMPRESSED = 0.9
SECTIONS = ("training", "refit")  # of a record; each trains from the beginning
SPLITS = ("validation", "test")


def command_of(arguments, method, seed, steps):
    """`steps` is how many the uncompressed run took; nothing where this is that run."""
    settings = [f"run.folder={arguments.folder}", f"run.name={method}-{seed}", f"seed={seed}", "train.refit=false",
                f"compress.method={method}", f"compress.matrix_approximation_rank={arguments.rank}"]
    if steps is not None:
        settings.append(f"compress.start_step={steps // 10}")
    launch = shlex.split(f"mpirun -n {arguments.ranks}" if arguments.launch is None else arguments.launch)
    return [*launch, str(arguments.program), "train", arguments.experiment, *settings, *arguments.settings]


def read_run(folder):
    """(record, events) of a run's folder."""
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return record, [json.loads(line) for line in lines]


def scores(events, split, step):
    """RMSE by lead time and variable of the split's last scoring at that step."""
    return {(event["lead_hours"], variable): rmse
            for event in events if event["event"] == "validation" and (event["split"], event["step"]) == (split, step)
            for variable, rmse in event["rmse"].items()}


def check_compressed(name, method, sections):
    for section in sections:
        compressed, steps = section["compressed_steps"], section["steps"]
        if method == "none" and compressed:
            raise Failure(f"{name}: {compressed} of {steps} steps compressed, wanted none")
        if method != "none" and compressed < LEAST_COMPRESSED * steps:
            raise Failure(f"{name}: {compressed} of {steps} steps compressed, wanted {100 * LEAST_COMPRESSED:g} %; "
                          "try more ranks than one, and an earlier compress.start_step")


def row_of(method, seed, record, events):
    name = f"{method}-{seed}"
    sections = [record[section] for section in SECTIONS if section in record]
    check_compressed(name, method, sections)
    found = {"validation": scores(events, "validation", sections[0]["best_step"]),
             "test": scores(events, "test", sections[-1]["best_step"])}
    common = [key for key in found["test"] if key in found["validation"]]
    if not common:
        raise Failure(f"{name}: metrics.jsonl has no lead time that is scored in both periods")
    shortest = min(common, key=lambda key: key[0])
    row = {"method": method, "seed": seed, "ranks": record["ranks"],
           **{key: sum(section[key] for section in sections)
              for key in ("steps", "compressed_steps", "gradient_bytes", "payload_bytes", "sent_bytes")},
           "best_step": sections[-1]["best_step"], "lead_hours": shortest[0], "variable": shortest[1]}
    row["payload_factor"] = row["gradient_bytes"] / row["payload_bytes"]
    row |= {f"{split}_rmse": found[split][shortest] for split in SPLITS}
    row["scores"] = [{"split": split, "lead_hours": lead, "variable": variable, "rmse": rmse}
                     for split in SPLITS for (lead, variable), rmse in found[split].items()]
    return row


def ratio(row, reference, split):
    """The geometric mean of the ratios of RMSE."""
    values = [{(score["lead_hours"], score["variable"]): score["rmse"]
               for score in run["scores"] if score["split"] == split} for run in (row, reference)]
    return math.exp(statistics.fmean(math.log(values[0][key] / values[1][key]) for key in values[0]))


def run_one(arguments, method, seed, reference):
    command = command_of(arguments, method, seed, reference and reference["training_steps"])
    print(f"seed {seed}: {method}", file=sys.stderr, flush=True)
    code, _, err = run_limited(command, arguments.limit)
    if code:
        said = [line for line in err.splitlines() if "error" in line] or err.splitlines() or [""]
        raise Failure(f"exit code {code} of {shlex.join(command)}: {said[0]}")
    record, events = read_run(arguments.folder / f"{method}-{seed}")
    row = row_of(method, seed, record, events)
    row["training_steps"] = record["training"]["steps"]
    row |= {f"{split}_ratio": ratio(row, reference or row, split) for split in SPLITS}
    return row, record["isobar"]["commit"]


def run_all(arguments, rows, commits):
    """Appends a row for each run."""
    for seed in arguments.seeds:
        reference = None
        for method in arguments.methods:
            row, commit = run_one(arguments, method, seed, reference)
            reference = reference or row
            commits.add(commit)
            rows.append(row)


def deviation(values):
    return statistics.stdev(values) if len(values) > 1 else None


def summarize(rows, methods, split, within):
    """Mean and spread of each method's ratios over the seeds."""
    summary = []
    for method in methods:
        of = [row for row in rows if row["method"] == method]
        if not of:
            continue
        ratios, errors = ([row[f"{split}_{what}"] for row in of] for what in ("ratio", "rmse"))
        mean = statistics.fmean(ratios)
        summary.append({"method": method, "split": split, "seeds": len(of), "ratio_mean": mean,
                        "ratio_deviation": deviation(ratios),
                        "ratio_min": min(ratios), "ratio_max": max(ratios),
                        "rmse_mean": statistics.fmean(errors), "rmse_deviation": deviation(errors),
                        "payload_factor": statistics.fmean(row["payload_factor"] for row in of),
                        "holds": mean <= 1 + within})
    return summary


def table(rows):
    text = (f"{'method':<12} {'seed':>5} {'test RMSE':>10} {'ratio':>7} {'validation':>11} {'ratio':>7} {'compressed':>11} "
            f"{'payload bytes':>14} {'factor':>7}\n")
    for row in rows:
        compressed = f"{row['compressed_steps']}/{row['steps']}"
        text += (f"{row['method']:<12} {row['seed']:>5} {row['test_rmse']:>10.4f} {row['test_ratio']:>7.4f} "
                 f"{row['validation_rmse']:>11.4f} {row['validation_ratio']:>7.4f} {compressed:>11} "
                 f"{row['payload_bytes']:>14} {row['payload_factor']:>7.1f}\n")
    return text


def summary_table(summary, within):
    def mean_of(of, what):
        spread = "" if of[f"{what}_deviation"] is None else f", standard deviation {of[f'{what}_deviation']:.4f}"
        return f"{of[f'{what}_mean']:.4f} on average{spread}"

    text = ""
    for of in summary:
        text += f"{of['method']}: {of['split']} RMSE {mean_of(of, 'rmse')} over {of['seeds']} seeds\n"
        if of["method"] == "none":
            continue
        verdict = f"within {100 * within:g} %" if of["holds"] else f"NOT within {100 * within:g} %"
        text += (f"{of['method']}: {of['split']} ratio {mean_of(of, 'ratio')}, {of['ratio_min']:.4f} to "
                 f"{of['ratio_max']:.4f}; {verdict}\n")
    return text


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", metavar="EXPERIMENT.yaml")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="keys of the experiment, for all runs")
    parser.add_argument("--methods", default="none,acp_sgd", help="by comma; none is run whether named or not")
    parser.add_argument("--seeds", default="0,1,2", help="by comma")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rank", type=int, default=4, help="compress.matrix_approximation_rank")
    parser.add_argument("--split", default="test", choices=SPLITS, help="whose ratios are judged")
    parser.add_argument("--within", type=float, default=0.01, help="how far the mean ratio may exceed 1")
    parser.add_argument("--launch", help="what starts the program on all ranks; 'mpirun -n RANKS' if not given")
    parser.add_argument("--program", type=Path, default=Path("build/release/bin/isobar"))
    parser.add_argument("--folder", type=Path, help="where runs are kept; if not given they are removed")
    parser.add_argument("--limit", type=float, default=3600, help="seconds that a run may take")
    parser.add_argument("--json", default="", help="write the rows there; - is standard output")
    arguments = parser.parse_intermixed_args(argv)
    arguments.methods = ["none"] + [name for name in arguments.methods.split(",") if name != "none"]
    try:
        arguments.seeds = [int(seed) for seed in arguments.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds must be whole numbers by comma, got '{arguments.seeds}'")
    if len(arguments.methods) < 2 or any("=" not in setting for setting in arguments.settings):
        parser.error("wanted a method beside none, and settings of the form key=value")
    return arguments


def compare(arguments, argv):
    rows, commits, problem = [], set(), None
    try:
        run_all(arguments, rows, commits)
    except (Failure, OSError, KeyError, ValueError) as failure:
        problem = str(failure)
    summary = summarize(rows, arguments.methods, arguments.split, arguments.within)
    if arguments.json != "-":
        print(table(rows) + summary_table(summary, arguments.within), end="")
    write_report(arguments.json, {"schema": "isobar.bench.compression_learning.1", "commit": ", ".join(sorted(commits)),
                                  "host": socket.gethostname(), "command": ["bench/compression_learning.py", *argv],
                                  "within": arguments.within, "rows": rows, "summary": summary})
    if problem:
        print(f"bench/compression_learning.py: error: {problem}", file=sys.stderr)
    return 1 if problem or not all(of["holds"] for of in summary) else 0


def main(argv):
    arguments = parse(argv)
    if arguments.folder:
        return compare(arguments, argv)
    with tempfile.TemporaryDirectory(prefix="compression_learning-") as folder:
        arguments.folder = Path(folder)
        return compare(arguments, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
