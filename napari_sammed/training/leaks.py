"""Images and patients that are in both parts, so that measures would be too good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from napari_sammed.evaluation.cases import Case
from napari_sammed.training.problems import Problem
from napari_sammed.training.splits import Split


def between(
    cases: Sequence[Case], split: Split, whose: Mapping[str, str], hashes: Mapping[str, str]
) -> Iterator[Problem]:
    """What is wrong with cases beside each other; fatal problems are of those that are kept to measure with.

    Parameters
    ----------
    cases : sequence of Case
    split : Split
    whose : mapping of str to str
        Case to patient.
    hashes : mapping of str to str
        Case to the hash of its image, as far as they are known.
    """
    voxels: dict[str, list[Case]] = {}
    for case in cases:
        if case.name in hashes:
            voxels.setdefault(hashes[case.name], []).append(case)
    told: set[str] = set()
    for alike in voxels.values():
        learnt = next((case for case in alike if split.part(case.name) == "train"), None)
        for case in alike:
            if learnt is not None and split.part(case.name) == "held_out":
                told.add(case.name)
                yield Problem(
                    "image in both parts",
                    case.image,
                    f"it is the same image as {learnt.image}, which is learnt from, while this one is to measure with: "
                    "measures would be too good.",
                )
            elif case is not (learnt or alike[0]):
                yield Problem("image twice", case.image, f"it is the same image as {(learnt or alike[0]).image}.")
    learnt_of = {whose[case.name]: case for case in reversed(cases) if split.part(case.name) == "train"}
    for case in cases:
        other = learnt_of.get(whose[case.name])
        if other is not None and split.part(case.name) == "held_out" and case.name not in told:
            yield Problem(
                "patient in both parts",
                case.image,
                f"the patient {whose[case.name]!r} is also learnt from ({other.image}): measures would be too good.",
            )
