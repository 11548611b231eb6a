"""Learning from what was corrected: the dock widget, and the run beside napari that it starts and follows."""
