"""Measured data that lies beside the checkout and is not part of it."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

VARIABLE = "EDGEWARD_SHARED_DATA"
"""Names the folder of the data; default: ``../shared/data``, seen from the checkout."""


def shared_data(*parts: str) -> Path:
    """A file of the shared data, such as ``shared_data("rtt", "aws_p50_matrix_ms.csv")``.

    Skips the test that asks where there is none.
    """
    folder = Path(os.environ.get(VARIABLE) or CHECKOUT.parent / "shared" / "data")
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not in the shared data; set {VARIABLE} to the folder that has it")
    return path
