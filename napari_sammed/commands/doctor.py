"""``napari-sammed doctor``: what the doctor found, as lines or JSON."""

from __future__ import annotations

from napari_sammed.commands.terminal import say, say_json
from napari_sammed.doctor import Finding, examine


def doctor(network: bool, as_json: bool) -> int:
    """Print all findings; 1 if something essential is bad, else 0."""
    findings: list[Finding] = []
    for finding in examine(network):
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
