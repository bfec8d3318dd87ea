"""What every recipe is made of: images with variance and data quality, arithmetic, statistics, strips."""
