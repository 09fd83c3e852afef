# SPDX-License-Identifier: Apache-2.0
"""What the drivers of comparisons share. Run from the repository's root; ctest does."""
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, "bench")
import comparison


class Intervals(unittest.TestCase):
    def test_are_those_of_the_sign_test(self):
        # P(Binomial(10, 1/2) < 2) = 11/1024 and P(Binomial(20, 1/2) < 6) = 0.0207: textbook ranks 2 and 6.
        self.assertEqual(comparison.interval(range(1, 11)), (2, 5.5, 9))
        self.assertEqual(comparison.interval(range(1, 21)), (6, 10.5, 15))

    def test_of_few_samples_are_their_range(self):
        self.assertEqual(comparison.interval([3, 1, 2]), (1, 2, 3))
        self.assertEqual(comparison.interval([7]), (7, 7, 7))


class Programs(unittest.TestCase):
    def test_rotate(self):
        self.assertEqual([comparison.rotated("abc", i) for i in range(4)], ["abc", "bca", "cab", "abc"])

    def test_are_found_in_what_a_launcher_says(self):
        self.assertEqual(comparison.read_report('warning\n{"rows": [{"a": 1}]}\nbye\n'), {"rows": [{"a": 1}]})

    def test_are_ended_at_their_limit(self):
        with self.assertRaisesRegex(comparison.Failure, "no end within 0.2 s: sleep 60"):
            comparison.run_limited(["sleep", "60"], 0.2)


