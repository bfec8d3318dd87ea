"""All that knows FITS: headers, pixels of raw files, files of products and the only writer."""
