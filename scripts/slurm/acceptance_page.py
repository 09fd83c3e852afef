#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes page.md and results.json of what scripts/slurm/acceptance.sh left in a folder."""
import argparse
import json
import os
import pathlib

# Of a bench's row what a reader wants, in this order, where the row has it.
COLUMNS = {
    "op": "operation", "backend": "backend", "ranks": "ranks", "bytes": "bytes", "median_s": "median s",
    "busbw_gbit_s": "bus Gbit/s", "sync": "sync", "precision": "precision", "step_s": "step s",
    "backward_s": "backward s", "exposed_comm_s": "exposed s", "error": "error",
}
SKIPPED = 77


def read_steps(folder):
    steps = []
    for line in (folder / "steps.tsv").read_text(encoding="utf-8").splitlines():
        name, code, seconds, command = line.split("\t", 3)
        steps.append({"name": name, "code": int(code), "seconds": int(seconds), "command": command})
    return steps


def read_report(folder, name):
    """What a step wrote with --json; None where it wrote nothing."""
    try:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def how(code):
    return {0: "well", SKIPPED: "skipped", 124: "took too long"}.get(code, f"failed ({code})")


def cell(value):
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value).replace("|", "/")


def table(titles, rows):
    lines = [titles, ["---"] * len(titles), *[[cell(value) for value in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def verdict_table(rows):
    return table(["", "what", "nodes", "measured", "wanted"],
                 [[row["grade"], row["what"], ", ".join(row["nodes"]), row["measured"], row["wanted"]] for row in rows])


def row_table(rows):
    keys = [key for key in COLUMNS if any(key in row for row in rows)]
    return table([COLUMNS[key] for key in keys], [[row.get(key) for key in keys] for row in rows])


def last_lines(folder, name, count=12):
    try:
        lines = (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join("    " + line for line in lines[-count:]) + "\n"


def section(folder, step, report):
    text = f"\n## {step['name']}\n\n    {step['command']}\n\n"
    if report and report["schema"].startswith("isobar.preflight"):
        return text + verdict_table(report["rows"])
    if report and report.get("rows"):
        return text + row_table(report["rows"])
    return text + last_lines(folder, step["name"])


def page(folder, given, steps, reports):
    commit = next((report["commit"] for report in reports.values()), "unknown")
    head = (f"# isobar on {given.cluster}\n\n{given.nodes} nodes, {given.ranks} ranks on each, commit {commit}, job "
            f"{os.environ.get('SLURM_JOB_ID', 'unknown')} on {os.environ.get('SLURM_JOB_NODELIST', 'unknown nodes')}.\n\n")
    overview = table(["step", "how", "seconds"], [[step["name"], how(step["code"]), step["seconds"]] for step in steps])
    return head + overview + "".join(section(folder, step, reports.get(step["name"])) for step in steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--ranks", type=int, required=True)
    given = parser.parse_args()
    steps = read_steps(given.folder)
    found = {step["name"]: read_report(given.folder, step["name"]) for step in steps}
    reports = {name: report for name, report in found.items() if report}
    (given.folder / "page.md").write_text(page(given.folder, given, steps, reports), encoding="utf-8")
    results = {"schema": "isobar.acceptance.1", "cluster": given.cluster, "nodes": given.nodes,
               "ranks_per_node": given.ranks, "steps": steps, "reports": reports}
    (given.folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
