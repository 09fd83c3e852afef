# SPDX-License-Identifier: Apache-2.0
"""What the testbed's programs share. Standard library only."""
