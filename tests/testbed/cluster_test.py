# SPDX-License-Identifier: Apache-2.0
"""A cluster on this machine, brought up, used, broken and ended. Needs root and the tools; skips (77) without."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import unittest

TESTBED = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "testbed"
sys.path.insert(0, str(TESTBED))

from parts import common, measurement, network, processes, quota  # noqa: E402
from parts.testbed import Testbed  # noqa: E402

NAME = f"test-{os.getpid()}"
SHAPE = ["--nodes", "2", "--rate", "100mbit", "--slurm", "--cluster", "juwels", "--gpus", "2"]
RATE_GBIT_S = 0.1
LIMIT_S = 60

STREAM = """
import os, socket, sys, time
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
size = int(sys.argv[1])
if os.environ["RANK"] == "0":
    connection = socket.create_server(address).accept()[0]
    connection.settimeout(20)
    got = bytearray()
    while part := connection.recv(65536):
        got += part
    print("bytes", len(got), "wrong", len(got) - got.count(b"w"))
else:
    while True:
        try:
            connection = socket.create_connection(address, timeout=20)
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
    connection.sendall(b"w" * size)
"""

CONNECT = """
import socket, time
begin = time.monotonic()
try:
    socket.create_connection(("n2", 1), timeout=1)
except ConnectionRefusedError:
    print(time.monotonic() - begin)
"""


def call(program, *arguments, name=NAME, **keywords):
    return subprocess.run([TESTBED / program, "--name", name, *arguments], capture_output=True, text=True,
                          timeout=LIMIT_S, check=False, **keywords)


def good(program, *arguments, **keywords):
    done = call(program, *arguments, **keywords)
    if done.returncode != 0:
        raise AssertionError(f"{program} {' '.join(arguments)}: code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def traces(name):
    """What a testbed would leave on this machine."""
    places = [Testbed(name).folder, quota.parent_of(quota.find_controller(), Testbed(name))]
    mounts = [line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if name in line]
    alive = [pid for pid, _ in processes.every()
             if any(entry.startswith(f"ISOBAR_TESTBED={name}.".encode()) for entry in processes.environment(pid))]
    return [str(place) for place in places if place.exists()] + mounts + alive


class ClusterTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(call, "down")
        good("up", *SHAPE)
        cls.measured = json.loads((Testbed(NAME).folder / "measure.json").read_text())

    def link(self, *arguments):
        self.addCleanup(call, "link", "--node", "2", "--heal")
        return good("link", "--node", "2", *arguments)

    def ranks(self, *arguments):
        return good("run", "--launcher", "none", "--", *arguments)

    def test_a_link_carries_its_rate_and_flatters_no_short_message(self):
        short, long = (row["median_gbit_s"] for row in self.measured["rows"])
        self.assertGreater(long, 0.9 * RATE_GBIT_S)
        self.assertLess(long, RATE_GBIT_S)
        self.assertLess(short, 1.05 * long)

    def test_a_burst_that_flatters_is_refused(self):
        testbed = Testbed(NAME)
        burst = "qdisc replace dev {} root tbf rate 100mbit burst 1mb limit 4mb\n"
        self.addCleanup(network.limit, testbed, "n1")
        self.addCleanup(network.limit, testbed, "n2")
        for node in ("n1", "n2"):
            network.batch(testbed, node, "tc", burst.format("eth0"))
            network.batch(testbed, "switch", "tc", burst.format(node))
        done = call("measure", "--rounds", "1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("a burst flatters short messages", done.stderr)

    def test_a_second_up_of_the_same_shape_keeps_the_nodes_and_heals_their_links(self):
        keeper = Testbed(NAME).process("n1").pid
        self.link("--cut")
        self.assertIn("stays", good("up", *SHAPE, "--no-measure"))
        self.assertEqual(Testbed(NAME).process("n1").pid, keeper)
        self.assertFalse(json.loads(good("link", "--node", "2"))["cut"])

    def test_nodes_are_machines_of_their_own(self):
        self.ranks("sh", "-c", "touch /dev/shm/of-$(hostname)")
        self.assertEqual(sorted(self.ranks("sh", "-c", "echo $(hostname) $(ls /dev/shm)").splitlines()),
                         ["n1 of-n1", "n2 of-n2"])
        self.assertEqual(good("enter", "n1", "ls", "/sys/class/net").split(), ["eth0", "lo"])
        self.assertNotIn(network.SUBNET, subprocess.check_output(["ip", "address"], text=True))

    def test_mpirun_puts_ranks_on_both_nodes_and_hands_on_settings(self):
        said = good("run", "--ranks-per-node", "2", "--env", "LIST=a,b", "--", "sh", "-c",
                    "echo $(hostname) $LIST $OMP_NUM_THREADS $PWD", cwd=TESTBED, env=dict(os.environ, OMP_NUM_THREADS="3"))
        self.assertEqual(sorted(said.splitlines()), sorted(f"n{node} a,b 3 {TESTBED}" for node in (1, 1, 2, 2)))

    def test_srun_puts_ranks_on_both_nodes_of_the_named_cluster(self):
        said = good("run", "--launcher", "srun", "--", "sh", "-c", "echo $(hostname) $SLURM_CLUSTER_NAME $PMIX_RANK")
        self.assertEqual(sorted(said.splitlines()), ["n1 juwels 0", "n2 juwels 1"])
        self.assertRegex(good("enter", "n1", "scontrol", "show", "config"), r"ClusterName\s*= juwels\n")

    def test_slurm_hands_out_fake_gpus(self):
        said = good("enter", "n2", "srun", "-N2", "--gpus-per-node=2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
        self.assertEqual(said.split(), ["0,1", "0,1"])

    def test_without_a_launcher_ranks_find_the_variables_of_torchrun(self):
        said = good("run", "--launcher", "none", "--ranks-per-node", "2", "--", "sh", "-c",
                    "echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR $(hostname)")
        host = f"{network.SUBNET}.1"
        self.assertEqual(sorted(said.splitlines()), [
            f"0 4 0 2 {host} n1", f"1 4 1 2 {host} n1", f"2 4 0 2 {host} n2", f"3 4 1 2 {host} n2"])

    def test_a_rank_that_fails_takes_the_others_with_it_after_the_grace(self):
        begin = time.monotonic()
        done = call("run", "--launcher", "none", "--grace", "500ms", "--", "sh", "-c", "[ $RANK = 1 ] && exit 7; sleep 50")
        self.assertEqual(done.returncode, 7)
        self.assertIn("rank 1 on n2 ended with code 7", done.stderr)
        self.assertTrue(0.5 <= time.monotonic() - begin < 40)

    def test_a_signal_ends_all_that_run_has_started(self):
        for launcher in ("none", "mpirun", "srun"):
            with self.subTest(launcher=launcher):
                command = ["--launcher", launcher, "--", "sh", "-c", "setsid sleep 50 & wait"]
                run = subprocess.Popen([TESTBED / "run", "--name", NAME, *command], stderr=subprocess.DEVNULL)
                mark = f"ISOBAR_TESTBED_RUN={run.pid}.{processes.start_time(run.pid)}"
                processes.wait_for("the ranks", lambda: self.sleepers(mark) == 2)
                run.send_signal(signal.SIGTERM)
                self.assertEqual(run.wait(LIMIT_S), 143)
                self.assertEqual(processes.marked(mark), [])

    @staticmethod
    def sleepers(mark):
        names = [pathlib.Path(f"/proc/{pid}/comm").read_text() for pid, _ in processes.marked(mark)]
        return names.count("sleep\n")

    def test_a_delay_shows_in_the_round_trip(self):
        self.link("--delay", "50ms", "--jitter", "10ms")
        self.assertGreater(float(good("enter", "n1", "python3", "-c", CONNECT)), 0.1)

    def test_lost_packets_change_no_byte(self):
        self.link("--loss", "2%")
        before = network.sent_bytes(Testbed(NAME), "n2")
        self.assertEqual(self.ranks(sys.executable, "-c", STREAM, "2000000"), "bytes 2000000 wrong 0\n")
        self.assertGreater(network.sent_bytes(Testbed(NAME), "n2") - before, 2_000_000)
        time.sleep(0.6)
        self.assertGreater(json.loads(good("link", "--node", "2"))["relay"]["out"]["lost"], 0)

    def test_corrupted_packets_arrive_as_if_they_were_right(self):
        self.link("--corrupt", "2%", "--direction", "out")
        said = self.ranks(sys.executable, "-c", STREAM, "2000000").split()
        self.assertEqual(said[1], "2000000")
        self.assertGreater(int(said[3]), 0)

    def test_a_link_takes_another_rate_until_it_is_healed(self):
        def seconds():
            return measurement.stream_seconds(Testbed(NAME), [1_000_000])[0]
        healthy = seconds()
        self.link("--rate", "20mbit")
        self.assertEqual(json.loads(good("link", "--node", "2"))["rate_bit_s"], 20e6)
        self.assertGreater(seconds(), 0.4)
        self.link("--heal")
        self.assertEqual(json.loads(good("link", "--node", "2"))["rate_bit_s"], RATE_GBIT_S * 1e9)
        self.assertLess(seconds(), 2 * healthy)

    def test_a_cut_link_carries_nothing_until_it_is_healed(self):
        self.link("--cut")
        self.assertIn("timed out", call("enter", "n1", "python3", "-c", CONNECT).stderr)
        self.link("--heal")
        self.assertLess(float(good("enter", "n1", "python3", "-c", CONNECT)), 1)

    @staticmethod
    def wait_for_traffic():
        """A reset before the ranks have met ends nothing."""
        before = network.sent_bytes(Testbed(NAME), "n2")
        processes.wait_for("traffic", lambda: network.sent_bytes(Testbed(NAME), "n2") > before + 2_000_000)

    def test_a_reset_ends_connections_at_both_ends(self):
        talk = ["run", "--launcher", "none", "--grace", "5s", "--", sys.executable, "-c", STREAM, "200000000"]
        run = subprocess.Popen([TESTBED / talk[0], "--name", NAME, *talk[1:]], stderr=subprocess.PIPE, text=True)
        self.wait_for_traffic()
        self.link("--reset")
        said = run.communicate(timeout=LIMIT_S)[1]
        self.assertEqual(run.returncode, 1)
        self.assertIn("ConnectionResetError", said)
        self.assertIn("ConnectionAbortedError", said)


class LifeTest(unittest.TestCase):
    """What else happens to testbeds; each test has a small one of its own."""

    def up(self, *arguments):
        self.name = f"{NAME}-life"
        self.addCleanup(call, "down", name=self.name)
        return good("up", "--no-measure", *arguments, name=self.name)

    def test_down_leaves_nothing(self):
        self.up("--nodes", "2", "--slurm", "--gpus", "1", "--cpus", "1")
        testbed = Testbed(self.name)
        spaces = [processes.namespace(testbed.process(name).pid) for name in testbed.keeper_names()]
        good("link", "--node", "2", "--loss", "1%", name=self.name)
        stray = subprocess.Popen([TESTBED / "enter", "--name", self.name, "n2", "env", "-i", "sleep", "50"])
        processes.wait_for("the stray", lambda: processes.namespace(stray.pid) == spaces[2])
        self.assertNotEqual(traces(self.name), [])
        good("down", name=self.name)
        self.assertEqual(stray.wait(), -signal.SIGTERM)
        self.assertEqual(traces(self.name), [])
        self.assertFalse({processes.namespace(pid) for pid, _ in processes.every()} & set(spaces))
        self.assertNotRegex(subprocess.check_output(["ip", "link"], text=True), r" n\d+(-\w+)?[@:]")
        self.assertIn("no testbed", good("down", name=self.name))

    def test_down_cleans_up_after_an_up_that_was_killed(self):
        name = f"{NAME}-killed"
        self.addCleanup(call, "down", name=name)
        up = subprocess.Popen([TESTBED / "up", "--name", name, "--nodes", "8", "--no-measure"], stdout=subprocess.DEVNULL)
        processes.wait_for("half a testbed", lambda: Testbed(name).process("n3").alive())
        up.kill()
        up.wait()
        self.assertIn("is not whole", call("run", "--", "hostname", name=name).stderr)
        good("down", name=name)
        self.assertEqual(traces(name), [])

    def test_a_testbed_of_another_shape_is_rebuilt(self):
        self.up("--nodes", "2")
        self.assertIn("is rebuilt", self.up("--nodes", "1", "--rate", "none"))
        self.assertEqual(good("run", "--", "hostname", name=self.name), "n1\n")

    def test_a_quota_limits_processor_time(self):
        """By the kernel's own count: how long the processor is another's on a busy machine plays no part in it."""
        self.up("--nodes", "1", "--cpus", "0.2")
        group = quota.parent_of(quota.find_controller(), Testbed(self.name)) / "n1"
        spin = "import time\nwhile time.process_time() < 0.5: pass"
        before = periods_throttled(group)
        good("enter", "n1", "python3", "-c", spin, name=self.name)
        self.assertGreater(periods_throttled(group), before)

    def test_a_short_period_limits_what_takes_less_than_a_long_one(self):
        self.up("--nodes", "1", "--cpus", "0.2", "--cpu-period", "10ms")
        group = quota.parent_of(quota.find_controller(), Testbed(self.name)) / "n1"
        before = periods_throttled(group)
        good("enter", "n1", "python3", "-c", "import time\nwhile time.process_time() < 0.5: pass", name=self.name)
        # 0.5 s in pieces of 2 ms; of 20 ms there would be 25.
        self.assertGreater(periods_throttled(group), before + 50)
        done = call("up", "--nodes", "1", "--cpus", "0.05", "--cpu-period", "10ms", name=self.name)
        self.assertRegex(done.stderr, r"^up: --cpus 0.05 of a --cpu-period of 0.01 s is less than 1 ms[^\n]*\n$")

    def test_says_in_one_line_that_it_needs_root(self):
        nobody = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-B"]
        if subprocess.run([*nobody, "-c", ""], check=False, stderr=subprocess.DEVNULL).returncode != 0:
            nobody[4] = "/usr/bin/python3"
        done = subprocess.run([*nobody, TESTBED / "up"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^up: needs root[^\n]*\n$")


def periods_throttled(group):
    """In how many periods the kernel made a control group wait for processor time."""
    counts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(counts["nr_throttled"])


def why_skip():
    if os.geteuid() != 0:
        return "it needs root, for network namespaces"
    tools = ("ip", "tc", "ss", "nsenter", "unshare", "setpriv", "mpirun", "srun", "slurmctld", "slurmd", "munged")
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        return f"it needs {', '.join(missing)}"
    if not os.path.exists("/dev/net/tun"):
        return "it needs /dev/net/tun"
    if subprocess.run(["unshare", "--net", "--mount", "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        return "network namespaces are not allowed here"
    try:
        quota.find_controller()
    except common.Failure as failure:
        return str(failure)
    return ""


if __name__ == "__main__":
    if reason := why_skip():
        print(f"skipped: {reason}")
        sys.exit(77)
    unittest.main()
