"""``napari-sammed doctor``: what the doctor found, as lines or JSON."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from napari_sammed.commands.servers import Server
from napari_sammed.commands.terminal import say, say_json
from napari_sammed.doctor import Finding, examine
from napari_sammed.errors import InputError


def doctor(network: bool, as_json: bool, server: Server | None = None) -> int:
    """Print all findings, about a server as well if one is named; 1 if something essential is bad, else 0."""
    findings: list[Finding] = []
    for finding in itertools.chain(examine(network), () if server is None else _server(server)):
        findings.append(finding)
        if not as_json:
            mark = "  " if finding.good else ("!!" if finding.essential else "! ")
            say(f"{mark} {finding.about}: {finding.text}")
    healthy = all(finding.good for finding in findings if finding.essential)
    if as_json:
        say_json({"healthy": healthy, "findings": [vars(finding) for finding in findings]})
    elif not healthy:
        say("!! marks what nothing works without.")
    return 0 if healthy else 1


def _server(server: Server) -> Iterator[Finding]:
    from napari_sammed.backend.remote import RemoteBackend

    try:
        backend = RemoteBackend(server.url, certificate=server.certificate, insecure=server.insecure)
        try:
            yield Finding("server", backend.check().sentence)
        finally:
            backend.shutdown()
    except InputError as error:
        yield Finding("server", str(error), False)
