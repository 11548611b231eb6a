"""Requests made up from the OpenAPI document, and broken ones: never a defect, and the server goes on."""

from __future__ import annotations

import os
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from napari_sammed.backend.protocol import FRAMES
from napari_sammed.backend.protocol.frames import Frame
from tests.server.serving import Client, ask, volume

EXAMPLES = int(os.environ.get("NAPARI_SAMMED_FUZZ", "10"))
CLICK = (5, 12, 14)
FEW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,  # the same ones everywhere
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
ROUTES = [
    ("GET", "/v1/health"),
    ("GET", "/v1/info"),
    ("GET", "/v1/metrics"),
    ("GET", "/v1/models"),
    ("HEAD", "/v1/images/{image}"),
    ("POST", "/v1/sessions"),
    ("GET", "/v1/sessions/{session}"),
    ("GET", "/v1/sessions/{session}/journal"),
    ("POST", "/v1/sessions/{session}/predict"),
    ("POST", "/v1/sessions/{session}/preview"),
    ("POST", "/v1/sessions/{session}/prefetch"),
    ("POST", "/v1/sessions/{session}/restore"),
    ("POST", "/v1/sessions/{session}/jobs"),
    ("GET", "/v1/jobs/{job}/events"),
    ("POST", "/v1/jobs/{job}/stop"),
    ("DELETE", "/v1/jobs/{job}"),
    ("DELETE", "/v1/requests/{request_id}"),
    ("DELETE", "/v1/sessions/{session}"),
]


@pytest.fixture(scope="module")
def schema(url):
    return schemathesis.openapi.from_url(f"{url}/v1/openapi.json")


@pytest.fixture(scope="module")
def talker(url):
    client = Client(url)
    client.open(volume())
    yield client
    client.close()


def check(reply: httpx.Response) -> None:
    """Never a defect, and errors as they are described."""
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400 and reply.content and reply.headers["content-type"] == "application/json":
        assert set(reply.json()["error"]) >= {"code", "message"}, reply.text


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_made_up_requests_are_answered_or_refused(schema, talker, method, path):
    operation = schema[path][method]

    @given(case=operation.as_strategy())
    @FEW
    def fuzz(case):
        parameters = dict(case.path_parameters or {})
        if "session" in parameters and method != "DELETE":
            parameters["session"] = talker.session  # else nothing but the id would be tried
        address = path.format(**{key: quote(str(value), safe="") for key, value in parameters.items()})
        body = case.body if isinstance(case.body, dict | list) else None
        query = {key: str(value) for key, value in (case.query or {}).items()}
        try:
            check(talker.http.request(method, address, params=query, json=body))
        except (httpx.InvalidURL, httpx.LocalProtocolError, ValueError) as error:
            assert not isinstance(error, AssertionError)

    fuzz()


numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.integers(-3, 40))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
voxel = st.lists(st.one_of(st.integers(-5, 30), numbers), min_size=1, max_size=4)
small = st.tuples(st.integers(0, 9), st.integers(0, 23), st.integers(0, 27)).map(list)
corners = st.tuples(small, small).map(lambda pair: [sorted(c) for c in zip(*pair, strict=True)])
box = st.one_of(
    corners.map(lambda axes: [[a[0] for a in axes], [a[1] + 1 for a in axes]]), st.tuples(voxel, voxel).map(list)
)
prompt = st.one_of(
    st.builds(lambda i, p: {"kind": "point", "index": i, "positive": p}, st.one_of(small, voxel), st.booleans()),
    st.builds(lambda b: {"kind": "box", "low": b[0], "high": b[1]}, box),
    st.builds(
        lambda points, r, a: {"kind": "stroke", "points": points, "positive": True, "radius": r, "axis": a},
        st.lists(st.one_of(small, voxel), max_size=4),
        st.one_of(st.floats(0, 12_000), numbers),
        st.one_of(st.none(), st.integers(-1, 4)),
    ),
    st.builds(lambda o, n: {"kind": "mask", "offset": o, "array": n}, st.one_of(small, voxel), st.integers(-1, 3)),
    anything,
)
window = st.one_of(
    st.builds(
        lambda kind, values: {"kind": kind, "values": values},
        st.sampled_from(["custom", "displayed", "percentiles", "as-is", "lung", "none"]),
        st.lists(numbers, max_size=3),
    ),
    anything,
)


def question(kind: str, arguments: dict) -> st.SearchStrategy:
    return st.builds(
        lambda model, given: {
            **ask(CLICK).to_frame().header,
            "kind": kind,
            "model": model,
            "arguments": {key: value for key, value in given.items() if value is not ...},
        },
        st.sampled_from(["thresholder", "planar", "random-walker", "ambiguous", "samed", "x"]),
        st.fixed_dictionaries(arguments),
    )


def maybe(strategy):
    return st.one_of(st.just(...), strategy)


mask = st.builds(lambda o, n: {"offset": o, "array": n}, st.one_of(small, voxel), st.integers(0, 2))
QUESTIONS = {
    "predict": {"prompts": st.lists(prompt, max_size=4), "window": maybe(window), "region": maybe(box)},
    "predict_boxes": {"boxes": st.lists(box, max_size=3), "window": maybe(window), "regions": maybe(st.lists(box))},
    "refine": {
        "region": box,
        "coarse": maybe(mask),
        "prompts": maybe(st.lists(prompt, max_size=3)),
        "axis": maybe(st.integers(-1, 4)),
        "window": maybe(window),
    },
    "propagate": {
        "anchors": st.lists(mask, max_size=2),
        "axis": st.integers(-1, 3),
        "within": maybe(box),
        "only": maybe(st.lists(st.integers(-2, 12), max_size=3)),
        "window": maybe(window),
    },
    "automatic": {"region": maybe(box), "window": maybe(window)},
}


@pytest.mark.parametrize("kind", list(QUESTIONS))
def test_odd_questions_are_answered_or_refused(talker, kind):
    arrays = (np.ones((1, 4, 4), bool), np.ones((3, 3), bool), np.zeros((2, 2, 2), bool), np.ones((2, 2), np.uint8))

    @given(header=question(kind, QUESTIONS[kind]))
    @settings(FEW, max_examples=4 * EXAMPLES)
    def fuzz(header):
        where = "predict" if kind == "predict" else "jobs"
        header["request_id"] = f"{abs(hash(str(header))):020d}"
        header["revision"] = talker.http.get(f"/v1/sessions/{talker.session}").json()["revision"]
        try:
            body = Frame(header, arrays).encode()
        except ValueError:
            return  # no JSON
        reply = talker.http.post(
            f"/v1/sessions/{talker.session}/{where}", content=body, headers={"content-type": FRAMES}
        )
        check(reply)
        if reply.status_code == 202:
            last = talker.events(reply.json()["job"])[-1].header
            assert last["event"] == "result" or last["error"]["code"] != "internal", (header, last)
        elif reply.status_code == 200:
            assert list(Frame.decode(reply.content, 1 << 28).header)

    fuzz()


@given(data=st.binary(max_size=300))
@settings(FEW, max_examples=4 * EXAMPLES)
def test_bytes_that_are_no_frames_are_refused(talker, data):
    for start in (b"", b"NSF1", ask(CLICK).to_frame().encode()[:40]):
        for where in ("predict", "jobs", "restore"):
            reply = talker.http.post(
                f"/v1/sessions/{talker.session}/{where}", content=start + data, headers={"content-type": FRAMES}
            )
            assert 400 <= reply.status_code < 500


def test_it_still_works_after_all_that(talker):
    talker.open(volume())
    assert talker.click(CLICK)[0].mask.any()
