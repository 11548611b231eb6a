"""The napari plugin: views say what the user wants, a coordinator does it, one class alone writes layers.

The only place that imports napari or Qt.
"""
