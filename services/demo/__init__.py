"""``fleet demo``: a day of three made-up shops, played through a whole fleet with faults, and checked."""
