"""What is wrong here, and what mends it: works without a daemon, without a network, and changes nothing by itself."""
