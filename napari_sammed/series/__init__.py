"""Folders of images that are annotated one after another with one list of classes; no windows, no torch."""
