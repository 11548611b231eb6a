"""The segmentation backend that all faces share: it owns models and device, and answers prompts about open images."""
