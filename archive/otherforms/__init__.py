"""Raw frames in other forms than FITS: XISF, and raw files of cameras that photographers use."""
