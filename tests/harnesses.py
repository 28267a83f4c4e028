"""The Python of an environment with lmms-eval and inspect-ai, which need other versions than ``constraints.txt`` has.

``make test-harnesses`` makes it and says where it is.
"""

import os

import pytest

__all__ = ["PYTHON", "needs_harnesses"]

PYTHON = os.environ.get("FIVL_HARNESSES_PYTHON", "")
needs_harnesses = pytest.mark.skipif(not PYTHON, reason="needs lmms-eval and inspect-ai: make test-harnesses")
