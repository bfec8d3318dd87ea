"""Stars of an image: where they are, how bright and how sharp."""
