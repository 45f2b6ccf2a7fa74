"""``fleet demo``: a day of four sample shops runs through a whole fleet, with faults, and is checked."""
