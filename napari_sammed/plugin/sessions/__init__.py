"""The sessions of images: opened, kept open, found again."""
