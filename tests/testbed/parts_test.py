# SPDX-License-Identifier: Apache-2.0
"""What the testbed's programs are made of, as far as it needs no root."""
import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TESTBED = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "testbed"
sys.path.insert(0, str(TESTBED))

from parts import common, measurement, network, processes, quota, relay  # noqa: E402


class UnitsTest(unittest.TestCase):
    def test_reads_numbers_with_units(self):
        self.assertEqual(common.rate("100mbit"), 1e8)
        self.assertIsNone(common.rate("none"))
        self.assertAlmostEqual(common.duration("20ms"), 0.02)
        self.assertAlmostEqual(common.share("1%"), 0.01)
        self.assertEqual(common.size("1MiB"), 2**20)

    def test_refuses_what_is_no_quantity(self):
        for parse, text in ((common.rate, "1"), (common.rate, "1bit"), (common.duration, "5"), (common.share, "101%"),
                            (common.duration, "1.2.3s"), (common.testbed_name, "../x")):
            with self.subTest(text=text), self.assertRaises(argparse.ArgumentTypeError):
                parse(text)


class MeasurementTest(unittest.TestCase):
    def test_accepts_a_link_at_the_ceiling_of_tcp(self):
        self.assertEqual(measurement.complaint(1e9, 2**18, short=0.97, long=0.95), "")

    def test_refuses_a_burst_that_flatters_short_messages(self):
        self.assertIn("flatters", measurement.complaint(1e9, 2**18, short=1.01, long=0.95))

    def test_refuses_a_link_that_is_slower_than_it_says(self):
        self.assertIn("slow", measurement.complaint(1e9, 2**18, short=0.89, long=0.89))

    def test_only_reports_a_fast_link_that_the_processor_cannot_fill(self):
        self.assertEqual(measurement.complaint(10e9, 2**18, short=5.0, long=4.0), "")

    def test_a_burst_is_little_beside_the_shortest_message(self):
        for rate in (1e7, 1e8, 1e9):
            for fair_from in (2**18, 2**20, 2**22):
                self.assertLess(network.burst_bytes(rate, fair_from), 0.075 * fair_from)


def checksum(tcp, source, target):
    """TCP's checksum over a segment, its own field included: 0 where it is right."""
    data = source + target + bytes([0, relay.TCP]) + len(tcp).to_bytes(2, "big") + tcp + b"\0" * (len(tcp) % 2)
    total = sum(int.from_bytes(data[place:place + 2], "big") for place in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame_of(payload):
    source, target = b"\x0a\x4d\0\1", b"\x0a\x4d\0\2"
    head = bytearray(20)
    head[12] = 5 << 4
    head[16:18] = checksum(bytes(head) + payload, source, target).to_bytes(2, "big")
    internet = bytearray(20)
    internet[0], internet[9] = 0x45, relay.TCP
    internet[2:4] = (40 + len(payload)).to_bytes(2, "big")
    internet[12:20] = source + target
    return b"\2" * 12 + b"\x08\0" + bytes(internet) + bytes(head) + payload


class RelayTest(unittest.TestCase):
    def test_a_turned_bit_keeps_the_checksum_right(self):
        for payload in (b"x", b"weather", bytes(range(200)) + b"\xff\xff"):
            frame = frame_of(payload)
            tcp, begin, end = relay.payload_span(frame)
            for byte in range(begin, end):
                altered = relay.flip_bit(frame, tcp, byte, 3)
                self.assertEqual(sum((a ^ b).bit_count() for a, b in zip(frame[begin:], altered[begin:])), 1)
                self.assertEqual(checksum(altered[tcp:], altered[26:30], altered[30:34]), 0)

    def test_leaves_frames_without_payload_alone(self):
        self.assertIsNone(relay.payload_span(frame_of(b"")))
        self.assertIsNone(relay.payload_span(b"\2" * 12 + b"\x08\x06" + b"\0" * 46))


class QuotaTest(unittest.TestCase):
    def test_limits_processor_time_by_either_version_of_control_groups(self):
        for version, wanted in ((1, {"cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "10000"}),
                                (2, {"cpu.max": "5000 10000"})):
            with self.subTest(version=version), tempfile.TemporaryDirectory() as folder:
                controller = quota.Controller(pathlib.Path(folder), version)
                controller.prepare(controller.root / "t")
                controller.make(controller.root / "t" / "n1", 0.5, 10_000)
                for file, text in wanted.items():
                    self.assertEqual((controller.root / "t" / "n1" / file).read_text(), text)

    def test_finds_the_controller_of_version_2(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "cgroup.controllers").write_text("cpuset cpu io\n")
            (root / "mounts").write_text(f"cgroup2 {root} cgroup2 rw 0 0\n")
            self.assertEqual(quota.find_controller(root / "mounts"), quota.Controller(root, 2))

    def test_says_where_there_is_none(self):
        with self.assertRaisesRegex(common.Failure, "no cpu controller"):
            quota.find_controller(pathlib.Path(os.devnull))


class ProcessesTest(unittest.TestCase):
    def test_ends_nobody_who_has_got_the_number_of_a_recorded_process(self):
        other = subprocess.Popen(["sleep", "60"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "n1"
            file.write_text(f"{other.pid} {processes.start_time(other.pid) - 1}\n")
            processes.Recorded(file).end()
        self.assertIsNone(other.poll())

    def test_what_cannot_be_recorded_never_runs(self):
        with tempfile.TemporaryDirectory() as folder:
            ran = pathlib.Path(folder) / "ran"
            with self.assertRaises(FileNotFoundError):
                processes.start(ran.parent / "missing" / "n1", ["touch", ran])
            time.sleep(0.2)
            self.assertFalse(ran.exists())


class ProxyTest(unittest.TestCase):
    def setUp(self):
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        self.server_port = server.getsockname()[1]
        threading.Thread(target=self.echo, args=(server,), daemon=True).start()

    @staticmethod
    def echo(server):
        try:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)
        except OSError:
            pass

    def client(self, *options):
        self.proxy = subprocess.Popen(
            [TESTBED / "proxy", "127.0.0.1:0", f"127.0.0.1:{self.server_port}", *options],
            stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.proxy.wait)
        self.addCleanup(self.proxy.stdout.close)
        self.addCleanup(self.proxy.kill)
        port = json.loads(self.proxy.stdout.readline())["port"]
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.addCleanup(client.close)
        return client

    def events(self):
        self.proxy.send_signal(signal.SIGTERM)
        return [json.loads(line)["event"] for line in self.proxy.stdout.read().splitlines()]

    def test_delays_each_way(self):
        client = self.client("--delay", "60ms")
        begin = time.monotonic()
        client.sendall(b"hello")
        self.assertEqual(client.recv(5), b"hello")
        self.assertGreaterEqual(time.monotonic() - begin, 0.12)

    def test_turns_one_bit(self):
        client = self.client("--flip", "6")
        client.sendall(b"hello")
        self.assertEqual(client.recv(5), b"hello")
        client.sendall(b"world")
        self.assertEqual(client.recv(5), b"wnrld")
        self.assertEqual(self.events(), ["open", "flip", "ended"])

    def test_cuts_by_a_reset(self):
        client = self.client("--cut-after", "8")
        client.sendall(b"hello")
        self.assertEqual(client.recv(5), b"hello")
        with self.assertRaises(ConnectionResetError):
            client.sendall(b"world")
            client.recv(5)
        self.assertIn("cut", self.events())

    def test_stays_open_and_silent_when_half_open(self):
        client = self.client("--cut-after", "3", "--half-open")
        client.sendall(b"hello")
        client.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            client.recv(5)
        self.assertEqual(self.events(), ["open", "silent", "ended"])


if __name__ == "__main__":
    unittest.main()
