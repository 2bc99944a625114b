"""One file a tab: layout and wiring; what happens is in `app.service`."""
