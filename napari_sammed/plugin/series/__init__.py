"""Annotating a folder of images: the dock widget and what it does."""
