"""Programs that people use every day, in a real mount."""
