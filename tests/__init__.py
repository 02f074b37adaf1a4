"""Tests of cloudfs."""
