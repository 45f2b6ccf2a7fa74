"""The shop floor: the stages of an order, who works on it, and the board."""
