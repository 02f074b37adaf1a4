"""Makes server and mount agree: plans what the server has to be told, tells it, and keeps both sides of a conflict."""
