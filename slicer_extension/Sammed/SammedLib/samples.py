"""The volume of the tutorial."""

from __future__ import annotations


def register_sample_data() -> None:
    """Offer the volume of the tutorial in the module Sample Data."""
    import SampleData

    checksum = "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e"
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="SAMMed",
        sampleName="SammedCTLiver",
        uris=f"https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/{checksum}",
        fileNames="CTLiver.nrrd",
        checksums=f"SHA256:{checksum}",
        nodeNames="CTLiver",
    )
