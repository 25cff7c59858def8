"""How long to fuzz: the same few cases each time, or as many new ones as ``EDGEWARD_FUZZ_EXAMPLES`` says."""

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("EDGEWARD_FUZZ_EXAMPLES", "0"))

CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


def fuzzed(examples: int) -> settings:
    """For one test.

    Args:
        examples: Of the short profile: they are always the same.
    """
    if EXAMPLES:
        return settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=CHECKS)
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=CHECKS,
    )


json_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 2**63, 2**64])
    | st.floats()
    | st.text(max_size=20)
)
json_values = st.recursive(
    json_leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """The bytes, with some cut out, put in, repeated, flipped or put in another order."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        match draw(st.sampled_from(["cut", "insert", "repeat", "flip", "truncate", "text"])):
            case "cut":
                del data[start:end]
            case "insert":
                data[start:start] = draw(st.binary(max_size=8))
            case "text":
                data[start:end] = draw(st.text(max_size=8)).encode("utf-8", "surrogatepass")
            case "repeat":
                data[start:start] = data[start:end] * draw(st.integers(1, 20))
            case "flip" if start < len(data):
                data[start] ^= 1 << draw(st.integers(0, 7))
            case "truncate":
                del data[start:]
            case _:
                pass
    return bytes(data)


@st.composite
def changed(draw: st.DrawFn, original: object) -> object:
    """A JSON value in which one value, somewhere, is another one, missing, or joined by new keys."""
    if draw(st.integers(0, 3)) == 0 or not isinstance(original, dict | list) or not original:
        return draw(json_values)
    if isinstance(original, list):
        position = draw(st.integers(0, len(original) - 1))
        return [draw(changed(value)) if index == position else value for index, value in enumerate(original)]
    key = draw(st.sampled_from(sorted(original)))
    match draw(st.sampled_from(["change", "change", "remove", "add"])):
        case "change":
            return {**original, key: draw(changed(original[key]))}
        case "remove":
            return {name: value for name, value in original.items() if name != key}
        case _:
            return {**original, draw(st.text(max_size=8)): draw(json_values)}
