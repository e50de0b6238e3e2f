"""How much is tried: a part of it before each change, all of it at night."""

import os

IS_NIGHTLY = bool(os.environ.get("NIGHTLY"))


def often(times: int) -> int:
    """So many times at night, a quarter of them otherwise."""
    return times if IS_NIGHTLY else times // 4
