"""What both benchmarks need: processes that end by their id, and numbers about them."""
