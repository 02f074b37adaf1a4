"""A sitecustomize for programs under test."""
