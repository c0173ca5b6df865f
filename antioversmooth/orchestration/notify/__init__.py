"""Events that a person's own command gets: `events` makes them, `command` calls it."""
