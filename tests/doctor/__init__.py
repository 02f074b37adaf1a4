"""Tests of doctor/."""
