"""Training what the package ships and what users adapt: pictures, targets, losses, loops.

Run as ``python -m napari_sammed.training.NAME --help``.
"""
