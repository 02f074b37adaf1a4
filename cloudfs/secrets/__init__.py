"""Where an account's app password is kept: the desktop's keyring, a credential of systemd, or a file of the user's."""
