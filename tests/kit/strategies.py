"""What generated tests draw from; import this module after `require("hypothesis")`."""

from __future__ import annotations

import json

from hypothesis import strategies as st

NAMES = ["smol", "SMOL", "library/smol:latest", "smol:", "absent", "../smol", "smol\0", "m" * 81]


def bodies() -> dict[str, st.SearchStrategy[bytes]]:
    """Bodies of requests: documents, in JSON, pieces of them, documents among pieces, and noise."""
    known = ["model", "name", "stream", "insecure", "MODEL", "Name", "\u017ftream", "x", ""]
    keys = st.sampled_from(known) | st.text(max_size=3)
    texts = st.text(st.characters(), max_size=5) | st.sampled_from(NAMES)
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
    values = scalars | st.recursive(
        scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=5
    )
    naming = st.tuples(st.sampled_from(["model", "Name"]), st.sampled_from(NAMES))
    members = (naming | st.tuples(keys, values)).map(lambda pair: ":".join(map(json.dumps, pair)))
    objects = st.lists(members, max_size=6).map(lambda found: "{" + ",".join(found) + "}")
    documents = (objects | values.map(json.dumps)).map(str.encode)
    words = ['"model"', '"name"', '"stream"', '"a"', "true", "null", "0", "-1.5e3", "NaN", " "]
    pieces = st.sampled_from([*words, '"smol"', *'{}[]:,{}:,\n"\\\u00e9'])
    fragments = st.lists(pieces).map(lambda found: "".join(found).encode())
    around = st.tuples(fragments | st.just(b""), documents, fragments).map(b"".join)
    return {
        "documents": documents,
        "fragments": fragments,
        "around": around,
        "noise": st.binary() | st.text().map(str.encode),
    }
