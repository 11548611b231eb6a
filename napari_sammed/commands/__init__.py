"""What the commands of `napari_sammed.cli` do, a file each. Importing this folder imports neither torch nor napari."""
