"""What a raw frame is, told from its header by an instrument file."""
