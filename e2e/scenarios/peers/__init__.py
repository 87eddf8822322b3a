"""What is claimed of programs that others wrote, where we measure ourselves against them."""
