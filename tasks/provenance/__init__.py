"""What made a product, told so that it can be made again from the file alone."""
