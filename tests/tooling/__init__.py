"""The rules that all tests are kept to, and tests of the scripts and rules of this project itself."""
