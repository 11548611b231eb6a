"""Codes for what a segment shows, found from its name: SNOMED CT, as DICOM's context groups 7150 and 7159 use it.

A name that the tables do not know is coded as Tissue, category Tissue, as 3D Slicer does by default: the name itself is
in the segment's label, so nothing is lost, and nothing is claimed that nobody said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

Code: TypeAlias = tuple[str, str]
"""SNOMED CT value and meaning."""

TISSUE: Code = ("85756007", "Tissue")
ANATOMY: Code = ("91723000", "Anatomical Structure")
ABNORMAL: Code = ("49755003", "Morphologically Abnormal Structure")
_SUBSTANCE: Code = ("91720002", "Body Substance")
_SIDES = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
_SIDE_WORDS = {"l": "left", "r": "right"}

_ORGANS: dict[str, Code] = {
    "adrenal gland": ("23451007", "Adrenal gland"),
    "aorta": ("15825003", "Aorta"),
    "bladder": ("89837001", "Bladder"),
    "bone": ("272673000", "Bone"),
    "brain": ("12738006", "Brain"),
    "brain stem": ("119238007", "Brain Stem"),
    "breast": ("76752008", "Breast"),
    "cerebellum": ("113305005", "Cerebellum"),
    "clavicle": ("51299004", "Clavicle"),
    "colon": ("71854001", "Colon"),
    "duodenum": ("38848004", "Duodenum"),
    "esophagus": ("32849002", "Esophagus"),
    "eye": ("81745001", "Eye"),
    "femur": ("71341001", "Femur"),
    "gallbladder": ("28231008", "Gallbladder"),
    "heart": ("80891009", "Heart"),
    "hippocampus": ("5366008", "Hippocampus"),
    "humerus": ("85050009", "Humerus"),
    "inferior vena cava": ("64131007", "Inferior vena cava"),
    "kidney": ("64033007", "Kidney"),
    "larynx": ("4596009", "Larynx"),
    "liver": ("10200004", "Liver"),
    "lung": ("39607008", "Lung"),
    "lymph node": ("59441001", "Lymph Node"),
    "mandible": ("91609006", "Mandible"),
    "muscle": ("71616004", "Muscle"),
    "nerve": ("91728009", "Nerve"),
    "optic nerve": ("18234004", "optic nerve"),
    "ovary": ("15497006", "Ovary"),
    "pancreas": ("15776009", "Pancreas"),
    "parotid gland": ("45289007", "Parotid gland"),
    "portal vein": ("32764006", "Portal vein"),
    "prostate": ("41216001", "Prostate"),
    "rectum": ("34402009", "Rectum"),
    "rib": ("113197003", "Rib"),
    "sacrum": ("54735007", "Sacrum"),
    "scapula": ("79601000", "Scapula"),
    "skin": ("39937001", "Skin"),
    "small intestine": ("30315005", "Small intestine"),
    "spinal cord": ("2748008", "Spinal cord"),
    "spleen": ("78961009", "Spleen"),
    "sternum": ("56873002", "Sternum"),
    "stomach": ("69695003", "Stomach"),
    "testis": ("40689003", "Testis"),
    "thyroid": ("69748006", "Thyroid"),
    "tooth": ("38199008", "Tooth"),
    "trachea": ("44567001", "Trachea"),
    "uterus": ("35039007", "Uterus"),
    "vertebra": ("51282000", "Vertebra"),
}
_FINDINGS: dict[str, Code] = {
    "cyst": ("367643001", "Cyst"),
    "edema": ("79654002", "Edema"),
    "hemorrhage": ("50960005", "Hemorrhage"),
    "lesion": ("52988006", "Lesion"),
    "mass": ("4147007", "Mass"),
    "neoplasm": ("108369006", "Neoplasm"),
    "nodule": ("27925004", "Nodule"),
}
_SUBSTANCES: dict[str, Code] = {"blood": ("87612001", "Blood")}
_SAME_WORD = {
    "adrenal": "adrenal gland",
    "brainstem": "brain stem",
    "bowel": "small intestine",
    "gall bladder": "gallbladder",
    "haemorrhage": "hemorrhage",
    "ivc": "inferior vena cava",
    "kidneys": "kidney",
    "lungs": "lung",
    "lymphnode": "lymph node",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "portal vein and splenic vein": "portal vein",
    "postcava": "inferior vena cava",
    "ribs": "rib",
    "small bowel": "small intestine",
    "thyroid gland": "thyroid",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "urinary bladder": "bladder",
    "vertebrae": "vertebra",
}


@dataclass(frozen=True)
class Meaning:
    """What a segment shows, in codes.

    Parameters
    ----------
    category, kind : Code
    side : Code, optional
        Left or right.
    place : Code, optional
        The organ that an abnormal structure lies in.
    """

    category: Code
    kind: Code
    side: Code | None = None
    place: Code | None = None


def meaning(name: str) -> Meaning:
    """The codes for a name such as "right kidney", "Liver tumour 2", "lung_left" or "vertebrae_T12".

    Numbers are passed over; a side and, for abnormal structures, the organ they lie in are told apart.
    """
    words = [_SIDE_WORDS.get(word, word) for word in re.findall(r"[^\W_]+", name.casefold())]
    sides = {word for word in words if word in _SIDES}
    words = [word for word in words if word not in _SIDES and not re.fullmatch(r"[a-z]?\d+", word)]
    side = _SIDES[sides.pop()] if len(sides) == 1 else None
    whole = _plain(words)
    if whole in _SUBSTANCES:
        return Meaning(_SUBSTANCE, _SUBSTANCES[whole], side)
    if whole in _ORGANS:
        return Meaning(ANATOMY, _ORGANS[whole], side)
    finding = _plain(words[-1:])
    organ = _plain(words[:-1])
    if finding in _FINDINGS and (not organ or organ in _ORGANS):
        return Meaning(ABNORMAL, _FINDINGS[finding], side, _ORGANS.get(organ))
    return Meaning(TISSUE, TISSUE)


def _plain(words: list[str]) -> str:
    text = " ".join(words)
    return _SAME_WORD.get(text, text)
