"""Files in and out, and samples, as layers."""
