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


def browser():
    """Its path; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def browse(page, profile, *options):
    """Opens a page and ends: what the browser wrote to standard output and standard error."""
    words = [browser(), "--headless", "--disable-gpu", f"--user-data-dir={profile}", "--enable-logging=stderr", *options]
    if os.geteuid() == 0:
        words.append("--no-sandbox")
    done = subprocess.run([*words, page.as_uri()], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
                          check=False)
    return done.stdout, done.stderr
