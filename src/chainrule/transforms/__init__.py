"""Forward, reverse, batch and their kin: each an order in which the chain rule's products are multiplied."""
