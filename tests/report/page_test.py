# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser. ctest sets ISOBAR_WRITE_PAGE, the program write_page; without a browser all is skipped."""
import http.server
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import zlib

sys.dont_write_bytecode = True
from made_runs import AXES_OF_512, browse, browser, make_campaign, make_training_run  # noqa: E402

WRITE_PAGE = os.environ["ISOBAR_WRITE_PAGE"]
SKIPPED = 77
AXES = {"nodes": ["1", "2", "4", "8"], "bucket-cap": ["1MiB", "4MiB", "25MiB"], "compress": ["none", "bf16"]}
WAIT = "--virtual-time-budget=20000"
DARK = "--blink-settings=preferredColorScheme=0"


def pixels_of(png):
    """Width, and rows of bytes, of a PNG of 8 bits a channel; and how many bytes a pixel has."""
    data, at, packed, head = png.read_bytes(), 8, b"", None
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        head = struct.unpack(">IIBBBBB", body) if kind == b"IHDR" else head
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    size = {2: 3, 6: 4}[head[3]]
    raw, width, rows = zlib.decompress(packed), head[0] * size, []
    before = bytearray(width)
    for start in range(0, len(raw), width + 1):
        row = bytearray(raw[start + 1:start + 1 + width])
        before = unfiltered(raw[start], row, before, size)
        rows.append(before)
    return rows, size


def unfiltered(kind, row, above, size):
    for i in range(len(row) if kind else 0):
        left, corner = (row[i - size], above[i - size]) if i >= size else (0, 0)
        up = above[i]
        if kind == 4:
            guess = left + up - corner
            near = sorted((abs(guess - value), order, value) for order, value in enumerate((left, up, corner)))[0][2]
        else:
            near = (left, up, (left + up) // 2)[kind - 1]
        row[i] = (row[i] + near) & 255
    return row


def colours_of(png):
    rows, size = pixels_of(png)
    found = {}
    for row in rows[::2]:
        for i in range(0, len(row), 2 * size):
            colour = tuple(row[i:i + 3])
            found[colour] = found.get(colour, 0) + 1
    return found


def streams_of(pdf):
    """The uncompressed streams of a PDF."""
    for found in re.finditer(rb"stream\r?\n(.*?)endstream", pdf.read_bytes(), re.DOTALL):
        try:
            yield zlib.decompress(found[1])
        except zlib.error:
            continue


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="isobar-report-")
        cls.folder = pathlib.Path(cls.scratch.name)
        cls.campaign = make_campaign(cls.folder / "campaigns", "sweep", AXES)
        cls.page = cls.write("page.html", cls.campaign, cls.projection())

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def write(cls, name, *paths):
        page = cls.folder / name
        subprocess.run([WRITE_PAGE, page, *paths], check=True)
        return page

    @classmethod
    def projection(cls):
        rows = [{"point": {"nodes": str(nodes), "bucket-cap": "4MiB", "compress": "none"}, "nodes": nodes, "value": "step_s",
                 "projected": True, "median": 0.2, "low": 0.18, "high": 0.23, "efficiency": 0.5, "efficiency_low": 0.4,
                 "efficiency_high": 0.6} for nodes in (16, 64)]
        path = cls.folder / "projected.json"
        path.write_text(json.dumps({"schema": "isobar.projection.1", "campaign": "sweep", "rows": rows}))
        return path

    def browse(self, page, *options, **where):
        with tempfile.TemporaryDirectory(prefix="isobar-browser-") as profile:
            return browse(page, profile, *options, **where)

    def open(self, page, *options):
        """The page's elements once all is drawn. Nothing may have been said on the console."""
        dom, said = self.browse(page, WAIT, "--dump-dom", *options)
        complaints = [line for line in said.splitlines() if "CONSOLE" in line]
        self.assertEqual(complaints, [])
        return dom

    def figures(self):
        """The charts of a page, as it was written."""
        found = re.findall(r'<script type="application/json">(.*?)</script>', self.page.read_text(), re.DOTALL)
        return [json.loads(text) for text in found]

    def test_draws_every_chart_and_says_nothing_on_the_console(self):
        dom = self.open(self.page)
        figures = self.figures()
        self.assertEqual(len(figures), 6)
        self.assertIn(f'data-drawn="{len(figures)}"', dom)
        self.assertEqual(dom.count('class="plot js-plotly-plot"'), len(figures))
        lines = sum(trace["type"] == "scatter" for figure in figures for trace in figure["data"])
        bars = sum(trace["type"] == "bar" for figure in figures for trace in figure["data"])
        self.assertEqual(len(re.findall(r'class="trace scatter ', dom)), lines)
        self.assertEqual(len(re.findall(r'class="trace bars"', dom)), bars)

    def test_draws_what_is_projected_dashed_and_nothing_else(self):
        dom = self.open(self.page)
        drawn = re.findall(r'class="js-line"[^>]*style="([^"]*)"', dom)
        projected = sum(trace.get("line", {}).get("dash") == "dash" for figure in self.figures() for trace in figure["data"])
        measured = sum(trace.get("line", {}).get("dash") == "solid" for figure in self.figures() for trace in figure["data"])
        dashed = [style for style in drawn if "stroke-dasharray" in style]
        # In the chart and in its legend; a line of one point is in the legend alone.
        self.assertGreater(projected, 0)
        self.assertIn(len(dashed), range(projected + 1, 2 * projected + 1))
        self.assertIn(len(drawn) - len(dashed), range(measured + 1, 2 * measured + 1))

    def test_takes_names_for_text_and_fetches_nothing(self):
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        name = f"<img src=http://127.0.0.1:{server.server_port}/x onerror=alert(1)>"
        rows = [{"point": {"nodes": str(nodes), "set": word}, "nodes": nodes, "value": "step_s", "median": nodes}
                for nodes in (1, 2) for word in (name, "<b>bold</b></script>")]
        report = self.folder / "names.json"
        report.write_text(json.dumps({"schema": "isobar.campaign.collect.1", "campaign": name, "rows": rows}))
        dom = self.open(self.write("names.html", report))
        self.assertIn(f"<h2>Campaign {name.replace('<', '&lt;').replace('>', '&gt;')}</h2>", dom)
        self.assertNotIn("<img", dom)
        self.assertIn("&lt;b&gt;bold&lt;/b&gt;&lt;/script&gt;", dom)
        self.assertEqual(asked, [])

    def test_draws_a_step_as_bars_on_an_axis_of_time(self):
        page = self.write("timeline.html", make_training_run(self.folder / "runs", "timed", timeline_ranks=3))
        dom = self.open(page)
        drawn = next(part for part in dom.split("<figure ")[1:] if ">Timeline of a step</h3>" in part)
        bars = re.findall(r'class="point"><path [^>]*d="M[^"]*Z"', drawn)
        self.assertEqual(len(bars), 3 * (5 + 3), "of each rank five parts, one bucket in a piece and one in two")
        for word in ("rank 0", "rank 2", "forward", "exposed communication", "bucket, hidden", "bucket, exposed"):
            self.assertIn(f">{word}</text>", drawn)

    def test_draws_a_step_light_and_dark(self):
        page = self.write("shades.html", make_training_run(self.folder / "runs", "shades", timeline_ranks=3))
        number = re.search(r'id="chart-(\d+)-title">Timeline of a step<', page.read_text())[1]
        hidden_bucket, backward = (0x00, 0x9e, 0x73), (0x56, 0xb4, 0xe9)
        for options, ground in (((), (255, 255, 255)), ((DARK,), (0x14, 0x18, 0x1d))):
            colours = self.picture(*options, page=page, place=f"#only={number}")
            self.assertEqual(max(colours, key=colours.get), ground)
            self.assertIn(hidden_bucket, colours)
            self.assertIn(backward, colours)

    def test_draws_no_timeline_of_an_older_profile(self):
        page = self.write("older.html", make_training_run(self.folder / "runs", "older"))
        self.assertNotIn("Timeline of a step", page.read_text())
        self.assertIn('data-drawn="3"', self.open(page))

    def picture(self, *options, page=None, **where):
        png = self.folder / "page.png"
        self.browse(page or self.page, WAIT, f"--screenshot={png}", "--window-size=800,900", *options, **where)
        return colours_of(png)

    def test_is_drawn_light_and_dark(self):
        light, dark = self.picture(), self.picture(DARK)
        self.assertEqual(max(light, key=light.get), (255, 255, 255))
        self.assertEqual(max(dark, key=dark.get), (0x14, 0x18, 0x1d))
        for colours in (light, dark):
            self.assertGreater(len(colours), 50)
            self.assertIn((0x00, 0x72, 0xb2), colours, "the first line of a chart")
        self.assertGreater(sum(count for colour, count in dark.items() if min(colour) > 150), 100, "text on dark ground")

    def test_is_printed_on_white_with_its_charts(self):
        pdf = self.folder / "page.pdf"
        self.browse(self.page, WAIT, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", DARK)
        drawn = b"\n".join(streams_of(pdf))
        self.assertGreater(len(re.findall(rb"/Type /Page\b", pdf.read_bytes())), 1)
        self.assertGreater(len(re.findall(rb"\bT[jJ]\b", drawn)), 100, "texts")
        self.assertIn(b"0 .447", drawn.replace(b"0.4", b".4"), "the colour of a chart's first line")
        self.assertNotIn(b".078431", drawn, "the dark ground")

    def test_opens_a_campaign_of_512_runs(self):
        place = make_campaign(self.folder / "campaigns", "large", AXES_OF_512, repeats=4)
        self.assertEqual(len(list(place.glob("runs/*/*"))), 512)
        dom = self.open(self.write("large.html", place))
        self.assertRegex(dom, r'data-drawn="7"')
        self.assertGreater(len(re.findall(r'class="point"', dom)), 512)


if __name__ == "__main__":
    if browser() is None:
        print("no Chromium or Chrome on the PATH: scripts/setup --testbed gets one")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
