"""The image that is segmented: a part of a napari layer, its axes, its place, its voxels."""
