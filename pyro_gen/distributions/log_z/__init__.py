"""Ways to know log Z, and to train without it."""
