"""The protocol in words and JSON schemas, for the OpenAPI document; `napari_sammed.backend.protocol` is what checks."""

from __future__ import annotations

from typing import Any

from napari_sammed.backend.protocol import FRAMES
from napari_sammed.backend.protocol.questions import KINDS
from napari_sammed.server.refusals import STATUS

Schema = dict[str, Any]

DESCRIPTION = f"""
Interactive segmentation of medical images by prompts. All indices are 0-based, in the order of the array's axes
(z, y, x); boxes are half-open.

**Bodies.** JSON, or *frames* (`{FRAMES}`): the bytes `NSF1`, the length of a header (uint32, little
endian), the header (UTF-8 JSON, at most 1 MiB), then the arrays that the header lists under `arrays`, each with `dtype`
(`|b1`, `<f2`, ...), `shape`, `encoding` (`raw`, `zlib`, `bits+zlib` for packed booleans, `shuffle+zlib` for bytes
sorted by significance) and `bytes`. Where JSON is taken, a frame with the same header is, too; masks need frames:
`array` is their place in the list.

**A session** belongs to the key that opened it, and to one image. Every answer to `predict` raises its revision by
one, and is on the server's disk before it is sent. A question says which revision it expects (`409 stale` names the
right one), and has a `request_id` of the client's: asked again with it, it is answered again and counted once. Logits
stay at the server; `previous` refers to those of an earlier answer as `[request_id, answer, reading]`. If
`409 rehydrate` comes, nothing of the session is left: open a new one, and ask again what the next answer builds on.

**Answers** are frames: one, or, where they take longer than a second, a stream of events of which the last is `result`
or `error`; `alive` comes where nothing else does. Errors that are known before are
`{{"error": {{"code", "message", ...}}}}`. Try again later, with the same request id, after 429 and 503 (`Retry-After`),
and after a connection that broke.

**Images** are known by the hash of voxels, dtype and grid. No names, files or other data of patients are sent or kept.
"""

_INTEGERS: Schema = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3}
_REQUEST_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]{16,64}$", "description": "Such as a UUID."}
_SMALL: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}


def _object(properties: Schema, required: tuple[str, ...] = (), description: str = "") -> Schema:
    found: Schema = {"type": "object", "properties": properties, "required": list(required), "description": description}
    return {key: value for key, value in found.items() if value}


def ref(name: str) -> Schema:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


_ARGUMENTS: dict[str, Schema] = {
    "prompts": {"type": "array", "items": ref("Prompt"), "minItems": 1, "description": "All of the object, in order."},
    "window": ref("Window"),
    "region": ref("Box") | {"description": "Look only here."},
    "boxes": {"type": "array", "items": ref("Box"), "minItems": 1, "description": "One object each."},
    "regions": {"type": "array", "items": {"anyOf": [ref("Box"), {"type": "null"}]}, "description": "One a box."},
    "anchors": {"type": "array", "items": ref("Mask"), "minItems": 1, "description": "Known slices of the object."},
    "axis": _SMALL | {"description": "Across the slices."},
    "within": ref("Box") | {"description": "Hard limits of the walk."},
    "only": {"type": "array", "items": _SMALL, "description": "Go to these slices only."},
    "coarse": ref("Mask") | {"description": "The whole object as it is known."},
}


def question(*kinds: str) -> Schema:
    """The schema of questions of some kinds."""
    forms = []
    for kind in kinds:
        required, optional = KINDS[kind]
        arguments = _object({name: _ARGUMENTS[name] for name in sorted(required | optional)}, tuple(sorted(required)))
        properties: Schema = {
            "kind": {"type": "string", "enum": [kind]},
            "model": {"type": "string", "maxLength": 100, "description": "Name of one of the models."},
            "request_id": _REQUEST_ID,
            "arguments": arguments | {"additionalProperties": False},
        }
        needed = ("kind", "model", "request_id", "arguments")
        if kind == "predict":
            properties |= {
                "revision": _SMALL | {"description": "Of the session, as the client knows it."},
                "previous": ref("LogitsReference"),
                "base": _REQUEST_ID | {"description": "An answer that the client has: only the difference is sent."},
            }
        forms.append(_object(properties, needed))
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


SCHEMAS: dict[str, Schema] = {
    "Box": {"type": "array", "items": _INTEGERS, "minItems": 2, "maxItems": 2, "description": "Low and high corner."},
    "Mask": _object(
        {"offset": _INTEGERS, "array": _SMALL}, ("offset", "array"), "A boolean array of the frame, and where it lies."
    ),
    "Prompt": {
        "anyOf": [
            _object(
                {"kind": {"const": "point"}, "index": _NUMBERS, "positive": {"type": "boolean"}},
                ("kind", "index", "positive"),
            ),
            _object({"kind": {"const": "box"}, "low": _INTEGERS, "high": _INTEGERS}, ("kind", "low", "high")),
            _object(
                {
                    "kind": {"const": "stroke"},
                    "points": {"type": "array", "items": _NUMBERS, "minItems": 1},
                    "positive": {"type": "boolean"},
                    "radius": {"type": "number", "minimum": 0},
                    "axis": {"type": "integer"},
                },
                ("kind", "points", "positive"),
            ),
            _object(
                {"kind": {"const": "mask"}, "offset": _INTEGERS, "array": _SMALL},
                ("kind", "offset", "array"),
                "In frames only.",
            ),
        ]
    },
    "Window": _object(
        {
            "kind": {"enum": ["soft-tissue", "lung", "bone", "brain", "custom", "displayed", "percentiles", "as-is"]},
            "values": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
        },
        ("kind", "values"),
        "How grey values become what networks see; left out, the image decides.",
    ),
    "LogitsReference": {
        "type": "array",
        "prefixItems": [_REQUEST_ID, _SMALL, _SMALL],
        "items": False,
        "minItems": 3,
        "maxItems": 3,
        "description": "Request id, which of its answers, which reading of that.",
    },
    "Error": _object(
        {
            "error": _object(
                {
                    "code": {"type": "string", "enum": sorted(STATUS)},
                    "message": {"type": "string", "description": "A sentence for the user."},
                    "revision": {"type": "integer", "description": "With stale: of the session."},
                    "retry_after": {"type": "number", "description": "With busy and unavailable: seconds."},
                },
                ("code", "message"),
            )
        },
        ("error",),
    ),
}

OPEN = _object({"image": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}, ("image",))
PREFETCH = _object(
    {
        "model": {"type": "string"},
        "regions": {"type": "array", "items": ref("Box"), "minItems": 1, "maxItems": 4096},
        "window": ref("Window"),
        "wait": {"type": "boolean", "description": "Reply when they are encoded."},
    },
    ("model", "regions", "window"),
)
RESTORE = _object({"logits": ref("LogitsReference")}, ("logits",))

FRAME_BODY: Schema = {FRAMES: {"schema": {"type": "string", "format": "binary"}}}


def body(schema: Schema) -> Schema:
    """Of a request that takes JSON, or a frame with the same header."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}, **FRAME_BODY}}}


def answers(*statuses: int, found: str = "", status: int = 200, frames: bool = False) -> dict[int | str, Schema]:
    """Of a route: what it gives, and the errors that it may say beside those of every route."""
    meanings: dict[int, list[str]] = {}
    for code, number in STATUS.items():
        meanings.setdefault(number, []).append(code)
    every = {400, 401, 403, 405, 408, 413, 422, 429, 431, 500, 503, 507, *statuses}
    described: dict[int | str, Schema] = {
        number: {
            "description": " or ".join(meanings[number]),
            "content": {"application/json": {"schema": ref("Error")}},
        }
        for number in sorted(every)
    }
    own: Schema = {"description": found}
    return {status: own | {"content": FRAME_BODY} if frames else own, **described}
