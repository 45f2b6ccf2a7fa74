"""Mail to the people of a shop: reminders and sequences, consent, and one-click unsubscribe."""
