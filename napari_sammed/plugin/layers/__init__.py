"""The layers that the plugin writes and listens to: prompts, labels, outlines and marks."""
