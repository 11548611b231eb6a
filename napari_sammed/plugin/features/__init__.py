"""What the panel offers, a class for each: it brings views, layers and session together at the desk."""
