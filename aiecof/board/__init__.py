"""The board: a frozen suite on which everyone plays the same tasks, and a card of each player."""
