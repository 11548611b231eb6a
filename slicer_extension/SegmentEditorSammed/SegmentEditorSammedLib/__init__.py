"""The Segment Editor effect SAMMed."""
