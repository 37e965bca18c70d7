# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of compiled layers against torch: ``python -m benchmarks`` or ``make bench``."""
