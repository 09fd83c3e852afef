# SPDX-License-Identifier: Apache-2.0
"""Campaigns as `isobar campaign run` leaves them, and a headless Chromium that opens pages."""
import itertools
import json
import os
import shutil
import subprocess

# With four repeats, 512 runs.
AXES_OF_512 = {"nodes": [str(2 ** i) for i in range(8)], "bucket-cap": ["256KiB", "1MiB", "4MiB", "25MiB"],
               "compress": ["none", "bf16"], "cluster": ["leonardo", "marenostrum5"]}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def step_time(values, repeat):
    """Grows with the nodes, and has a best bucket; one run in 16 is far off."""
    nodes = int(values.get("nodes", 1))
    cap = {"256KiB": 1.3, "1MiB": 1.1, "4MiB": 1.0, "25MiB": 1.05}.get(values.get("bucket-cap"), 1)
    far = 2 if repeat == 2 and nodes % 16 == 8 else 1
    return 0.1 * cap * (1 + 0.002 * nodes) * (1 + 0.001 * repeat) * far


def make_campaign(parent, name, axes, repeats=3, commit="a1b2c3d4e5f6"):
    """The campaign's folder, all of whose runs are done."""
    place = parent / name
    place.mkdir(parents=True)
    written = ", ".join(f"{axis}: [{', '.join(values)}]" for axis, values in axes.items())
    (place / "campaign.yaml").write_text(
        f"campaign: {{name: '{name}'}}\nrun: {{kind: step}}\naxes: {{{written}}}\nrules: {{repeats: {repeats}}}\n")
    for point in itertools.product(*axes.values()):
        values = dict(zip(axes, point))
        slug = ",".join(f"{axis}={value}" for axis, value in values.items())
        for repeat in range(1, repeats + 1):
            folder = place / "runs" / slug / str(repeat)
            folder.mkdir(parents=True)
            step = step_time(values, repeat)
            row = {"step_s": step, "forward_s": 0.3 * step, "backward_s": 0.5 * step, "exposed_comm_s": 0.1 * step,
                   "optimizer_s": 0.05 * step}
            (folder / "result.json").write_text(json.dumps({"rows": [row]}))
            (folder / "run.json").write_text(json.dumps({
                "end": {"exit_code": 0}, "host": "n1", "start_time": f"2026-01-01T00:00:{repeat:02}Z",
                "conditions": {"commit": commit, "program": "0" * 32, "environment": {"OMP_NUM_THREADS": "1"}}}))
    return place


def make_training_run(parent, name, timeline_ranks=0):
    """The folder of `isobar train` after a few steps, with a profile; of how many ranks it has a timeline."""
    place = parent / name
    place.mkdir(parents=True)
    lines = [{"event": "step", "step": step, "loss": 1 / step, "step_s": 0.2, "data_wait_s": 0.02, "exposed_comm_s": 0.01}
             for step in (10, 20)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ranks = max(timeline_ranks, 1)
    seconds = {"data_wait": 0.02, "forward": 0.06, "backward": 0.1, "exposed_comm": 0.01, "optimizer": 0.01}
    profile = {"schema": "isobar.profile.1", "steps": 15, "warmup_steps": 5, "world": ranks, "step_s": 0.2, "collectives": [],
               "ranks": [{"rank": rank, "host": "n1", "step_s": 0.2, "seconds": seconds} for rank in range(ranks)]}
    if timeline_ranks:
        profile["timeline"] = {"step": 13, "ranks": [timeline_of(rank, seconds) for rank in range(ranks)]}
    (place / "profile.json").write_text(json.dumps(profile))
    return place


def timeline_of(rank, seconds):
    """Its parts in their order, and two buckets: one is hidden, the other in part."""
    parts, now = [], 0.0
    for part, length in seconds.items():
        parts.append({"part": part, "begin_s": now, "end_s": now + length})
        now += length
    buckets = [{"bucket": number, "bytes": 4096, "begin_s": begin, "end_s": end, "waited_s": 0.0}
               for number, begin, end in ((0, 0.12, 0.15), (1, 0.17, 0.185))]
    return {"rank": rank, "step_s": now, "parts": parts, "buckets": buckets}


def browser():
    """Its path; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def browse(page, profile, *options, place=""):
    """Opens a page, or a place in it such as "#only=3", and ends: what the browser wrote to standard output and error."""
    words = [browser(), "--headless", "--disable-gpu", f"--user-data-dir={profile}", "--enable-logging=stderr", *options]
    if os.geteuid() == 0:
        words.append("--no-sandbox")
    done = subprocess.run([*words, page.as_uri() + place], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
                          check=False)
    return done.stdout, done.stderr
