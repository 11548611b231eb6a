"""What users prefer, and what is remembered from start to start."""
