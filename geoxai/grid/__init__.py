"""Where and when: coordinates and their conventions, regions, areas, masks, calendars."""
