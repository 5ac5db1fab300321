"""What the pages of the book need to be drawn, and nothing else does."""
