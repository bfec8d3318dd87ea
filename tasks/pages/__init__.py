"""What the dashboard's pages are written with."""
