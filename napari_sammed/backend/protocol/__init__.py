"""How a client and a server of segmentation talk; both import it from here. Needs neither torch nor a web framework.

`frames` are the bytes: JSON and arrays. `values` (boxes, prompts, grids), `answers` and `cards` are what is in them.
`questions` are calls of a backend, `events` what comes back of them, `images` are images on their way to the server.

What goes over the network is voxels, geometry and prompts: no names of files or people, no code, no pickles.

All addresses begin with ``/v1``, all requests but ``health`` carry ``Authorization: Bearer KEY`` where the server has
keys. Bodies are JSON, or frames where it says so (media type `FRAMES`).

    GET    health                        {"status": "ok"}
    GET    info                          {"protocols", "version", "device", "limits": {"image", "request",
                                         "idle_seconds", "keep_seconds", "unheard_seconds"}}
    GET    models                        {"models": cards, "installed": names}
    HEAD   images/{id}                   200 or 404
    PUT    images/{id}                   frames: `images.image_frames`; 201, or 200 if it was there
    POST   sessions                      {"image": id} -> 201 {"session", "revision"}; 404 "no_image"
    GET    sessions/{s}                  {"session", "image", "revision", "idle_seconds"}
    DELETE sessions/{s}                  204
    GET    sessions/{s}/journal?after=N  frames: questions that are answered, each with its "revision"
    POST   sessions/{s}/predict          a frame: `Question` of kind "predict" -> frames: `events`
    POST   sessions/{s}/preview          the same, or kind "refine": changes nothing, 425 "not_ready"
    POST   sessions/{s}/jobs             a frame: `Question` of the other kinds -> 202 {"job"}
    GET    jobs/{j}/events?after=N       frames: `events`, numbered
    POST   jobs/{j}/stop                 202; what is there becomes the result
    DELETE jobs/{j}                      204; calls it off
    POST   sessions/{s}/prefetch         {"model", "regions": boxes, "window"} -> 202; with "wait": true -> a frame when
                                         they are encoded, and a closed connection takes the hint back
    POST   sessions/{s}/restore          {"model", "logits": `LogitsReference`} -> a frame with one float32 array
    DELETE requests/{request_id}         204; calls a running prediction off

A prediction raises the revision of its session by one, a job leaves it; both are in the session's journal before their
result is told, and both have one answer, however often their request id arrives. A session that is at another revision
than the question says answers 409 "stale"; one that is lost, or an earlier answer that is, 409 "rehydrate" (a session
of another key: 404), and the client opens anew and asks its earlier questions again, under their ids.
"""

VERSION = 1
"""Of the protocol; addresses begin with it."""

FRAMES = "application/x-napari-sammed-frames"
"""The media type of bodies that are frames; all others are JSON."""
